package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/logscan"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/rules/ruleset"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

const statsHelp = `Reads the local log and shows, for each rule key, how many events and bytes it
has caused lately, the most first: which rule floods. Beside each key stand its
busiest system call and program, and the rules of the merged file that carry it.
Events of a rule without a key are counted as (no key), those of no rule (logins
and the like) not at all.`

// ruleStats counts what rules have caused.
type ruleStats struct {
	*ruleFiles
	log    string
	since  time.Duration
	top    int
	format string
}

func newRuleStatsCommand(r *ruleFiles, std Stdio) *cobra.Command {
	s := &ruleStats{ruleFiles: r}
	cmd := &cobra.Command{
		Use: "stats", Short: "Show which rules cause how many events", Long: statsHelp, Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return coded(s.run(cmd.Context())) },
	}
	cmd.Flags().StringVar(&s.log, "log", logscan.DefaultLog, "log to read, with its rotated files")
	cmd.Flags().DurationVar(&s.since, "since", 24*time.Hour, "how far to look back")
	cmd.Flags().IntVar(&s.top, "top", 20, "how many keys to show, 0: all")
	cmd.Flags().StringVar(&s.format, "format", "text", "text or json")
	completion.Flags(cmd, map[string]option.Words{"log": option.Files, "format": option.These("text", "json")})
	return cmd
}

// keyStats is what one key has caused.
type keyStats struct {
	Key      string    `json:"key"` // "" for rules without one
	Events   uint64    `json:"events"`
	Records  uint64    `json:"records"`
	Bytes    uint64    `json:"bytes"`
	PerHour  float64   `json:"events_per_hour"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Syscall  string    `json:"syscall,omitempty"` // the busiest
	Calls    uint64    `json:"syscall_events,omitempty"`
	Exe      string    `json:"exe,omitempty"` // the busiest
	Runs     uint64    `json:"exe_events,omitempty"`
	Rules    []string  `json:"rules,omitempty"`
	syscalls counter
	exes     counter
}

// counter counts values, of which there may be many: what comes first has its
// place, the rest is counted together.
type counter map[string]uint64

const counterMax = 10000

func (c counter) add(v string) {
	if _, ok := c[v]; !ok && len(c) >= counterMax {
		v = "(others)"
	}
	c[v]++
}

func (c counter) most() (value string, n uint64) {
	for v, count := range c {
		if count > n || count == n && v < value {
			value, n = v, count
		}
	}
	return value, n
}

func (s *ruleStats) run(ctx context.Context) int {
	if s.format != "text" && s.format != "json" {
		fmt.Fprintf(s.err, "--format %s: text and json are known\n", s.format)
		return exitUsage
	}
	from := s.now().Add(-s.since)
	keys := map[string]*keyStats{}
	files, err := since(s.log, from)
	if err == nil {
		err = s.scan(ctx, files, from.UnixMilli(), keys)
	}
	if err != nil {
		fmt.Fprintln(s.err, err)
		return 1
	}
	list := s.finish(keys)
	if s.format == "json" {
		enc := json.NewEncoder(s.out)
		for _, k := range list {
			if err := enc.Encode(k); err != nil {
				fmt.Fprintln(s.err, err)
				return 1
			}
		}
		return 0
	}
	s.print(list, from)
	return 0
}

// since lists the log's files, the oldest first, that were written to after a time.
func since(path string, at time.Time) ([]string, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	logs := logscan.Input{LogFile: path}
	files, err := logs.Files()
	return slices.DeleteFunc(files, func(file string) bool {
		info, err := os.Stat(file)
		return err == nil && info.ModTime().Before(at) && file != path
	}), err
}

// counting counts the events of one goroutine.
type counting struct {
	x    query.Extractor
	keys map[string]*keyStats
}

// Event implements logscan.Worker.
func (c *counting) Event(ev *event.Event) error {
	countEvent(&c.x, ev, c.keys)
	return nil
}

// Flush implements logscan.Worker.
func (c *counting) Flush() (none struct{}, _ error) { return none, nil }

// scan counts the events of some logs that continue each other.
func (s *ruleStats) scan(ctx context.Context, files []string, fromMs int64, keys map[string]*keyStats) error {
	logs, err := new(logscan.Input).OpenFiles(files)
	if err != nil {
		return err
	}
	defer logs.Close()
	cfg := logscan.Config{Query: &query.Query{StartMs: fromMs}, Workers: 1}
	return logscan.Scan(ctx, logs, cfg, func() (logscan.Worker[struct{}], error) { return &counting{keys: keys}, nil }, nil)
}

func countEvent(x *query.Extractor, ev *event.Event, keys map[string]*keyStats) {
	var names []string
	arch, syscall, exe := "", "", ""
	x.Extract(ev, func(f query.Field, value []byte) {
		switch f {
		case query.FieldKey:
			if name := string(value); !slices.Contains(names, name) {
				names = append(names, name)
			}
		case query.FieldArch:
			arch = string(value)
		case query.FieldSyscall:
			syscall = string(value)
		case query.FieldExe:
			exe = string(value)
		}
	})
	if len(names) == 0 {
		if syscall == "" {
			return
		}
		names = []string{""}
	}
	size, at := uint64(ev.Size()+len(ev.Records)), time.UnixMilli(ev.Ms)
	for _, name := range names {
		if name == "(null)" {
			name = ""
		}
		k := keys[name]
		if k == nil {
			k = &keyStats{Key: name, First: at, syscalls: counter{}, exes: counter{}}
			keys[name] = k
		}
		k.Events++
		k.Records += uint64(len(ev.Records))
		k.Bytes += size
		if at.Before(k.First) {
			k.First = at
		}
		if at.After(k.Last) {
			k.Last = at
		}
		if syscall != "" {
			k.syscalls.add(callName(arch, syscall))
		}
		if exe != "" {
			k.exes.add(exe)
		}
	}
}

func callName(arch, nr string) string {
	a, ok := tables.ArchByName(arch)
	n := 0
	if _, err := fmt.Sscan(nr, &n); err != nil || !ok {
		return nr
	}
	if name, ok := tables.SyscallName(a, n); ok {
		return name
	}
	return nr
}

// finish sorts the keys and finds the rules that carry them.
func (s *ruleStats) finish(keys map[string]*keyStats) []*keyStats {
	rulesOf := map[string][]string{}
	if data, err := fsys.ReadRegular(s.file, ruleset.MaxFile); err == nil {
		for _, l := range ruleset.Parse(s.file, data, s.env).Lines {
			if l.Cmd == nil || l.Cmd.Rule() == nil {
				continue
			}
			names := l.Cmd.Rule().Keys()
			if len(names) == 0 {
				names = []string{""}
			}
			for _, k := range names {
				rulesOf[k] = append(rulesOf[k], fmt.Sprintf("%s:%d", l.File, l.No))
			}
		}
	}
	hours := s.since.Hours()
	list := make([]*keyStats, 0, len(keys))
	for _, k := range keys {
		k.Rules = rulesOf[k.Key]
		k.Syscall, k.Calls = k.syscalls.most()
		k.Exe, k.Runs = k.exes.most()
		if hours > 0 {
			k.PerHour = float64(k.Events) / hours
		}
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b *keyStats) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Key, b.Key))
	})
	if s.top > 0 && len(list) > s.top {
		list = list[:s.top]
	}
	return list
}

func (s *ruleStats) print(list []*keyStats, from time.Time) {
	if len(list) == 0 {
		fmt.Fprintf(s.out, "no events of rules since %s in %s\n", from.Format(time.DateTime), s.log)
		return
	}
	var events, bytes uint64
	for _, k := range list {
		events, bytes = events+k.Events, bytes+k.Bytes
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "events\tshare\tper hour\tbytes\tlast\t  key")
	for _, k := range list {
		name := k.Key
		if name == "" {
			name = "(no key)"
		}
		fmt.Fprintf(w, "%d\t%.1f%%\t%.1f\t%s\t%s\t  %s\n", k.Events, 100*float64(k.Events)/float64(events), k.PerHour, size(k.Bytes), k.Last.Format(time.DateTime), safe(name))
	}
	w.Flush()
	top := list[0]
	name := top.Key
	if name == "" {
		name = "(no key)"
	}
	var most []string
	if top.Syscall != "" {
		most = append(most, fmt.Sprintf("%.0f%% %s", 100*float64(top.Calls)/float64(top.Events), top.Syscall))
	}
	if top.Exe != "" {
		most = append(most, fmt.Sprintf("%.0f%% by %s", 100*float64(top.Runs)/float64(top.Events), safe(top.Exe)))
	}
	fmt.Fprintf(s.out, "\nmost: %s", safe(name))
	if len(most) > 0 {
		fmt.Fprintf(s.out, " (%s)", strings.Join(most, ", "))
	}
	fmt.Fprintln(s.out)
	for _, r := range top.Rules {
		io.WriteString(s.out, "  "+r+"\n")
	}
}

func size(n uint64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%dG", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%dM", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%dK", n>>10)
	}
	return fmt.Sprint(n)
}

// safe keeps what a log says from commanding the terminal.
func safe(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
