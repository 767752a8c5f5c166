package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/logscan"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/rules/ruleset"
)

const statsHelp = `Reads the local log and shows, for each rule key, how many events and bytes it
has caused lately, the most first: which rule floods. Beside each key stand its
busiest system call and program, and the rules of the merged file that carry it.
Events of a rule without a key are counted as (no key), those of no rule (logins
and the like) not at all.`

// ruleStats counts the events that rules have caused.
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
		Use: "stats", Short: "Show which rules cause how many events", Long: statsHelp, Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.format != "text" && s.format != "json" {
				return command.Wrongf("--format %s: text and json are known", s.format)
			}
			return coded(s.run(cmd.Context()))
		},
	}
	cmd.Flags().StringVar(&s.log, "log", logscan.DefaultLog, "log to read, with its rotated files")
	s.since = 24 * time.Hour
	cmd.Flags().Var(command.Duration{To: &s.since}, "since", "how far to look back")
	cmd.Flags().IntVar(&s.top, "top", 20, "how many keys to show, 0: all")
	cmd.Flags().StringVar(&s.format, "format", "text", "text or json")
	completion.Flags(cmd, map[string]option.Words{"log": option.Files, "format": option.These("text", "json")})
	return cmd
}

func (s *ruleStats) run(ctx context.Context) int {
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
