package trace

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// maxNames is how many files a summary keeps apart; others are counted together.
const maxNames = 100000

// Summary counts what a traced program did, as strace -c does. The zero value is ready to
// use; a Summary belongs to one goroutine.
type Summary struct {
	calls, files, processes map[string]*tally
	errors                  map[string]*tally // "ENOENT openat"
	total                   tally
}

type tally struct{ calls, errors uint64 }

// Add counts an event.
func (s *Summary) Add(ev *event.Event) {
	if s.calls == nil {
		s.calls, s.files, s.processes, s.errors = map[string]*tally{}, map[string]*tally{}, map[string]*tally{}, map[string]*tally{}
	}
	var call *record.Record
	cwd := ""
	for i := range ev.Records {
		switch r := &ev.Records[i]; r.Type {
		case tables.Syscall:
			call = r
		case tables.CWD:
			cwd = text(r, "cwd")
		}
	}
	if call == nil {
		return
	}
	name, _ := callOf(call)
	failed := text(call, "success") == "no"
	count(s.calls, name, failed)
	count(s.processes, text(call, "pid")+" "+printable(text(call, "comm")), failed)
	s.total.add(failed)
	if failed {
		count(s.errors, errorName(text(call, "exit"))+" "+name, true)
	}
	var names []string
	for i := range ev.Records {
		r := &ev.Records[i]
		if r.Type != tables.Path || text(r, "nametype") == "PARENT" {
			continue
		}
		file := text(r, "name")
		if file == "" || file == "(null)" {
			continue
		}
		if !strings.HasPrefix(file, "/") && cwd != "" {
			file = path.Join(cwd, file)
		}
		if !slices.Contains(names, file) {
			names = append(names, file)
			count(s.files, file, failed)
		}
	}
}

func (t *tally) add(failed bool) {
	t.calls++
	if failed {
		t.errors++
	}
}

func count(m map[string]*tally, key string, failed bool) {
	t := m[key]
	if t == nil {
		if len(m) >= maxNames {
			key = "(others)"
		}
		if t = m[key]; t == nil {
			t = &tally{}
			m[key] = t
		}
	}
	t.add(failed)
}

// text is a field's value, decoded.
func text(r *record.Record, field string) string {
	f, ok := r.Get(field)
	if !ok {
		return ""
	}
	switch field {
	case "name", "cwd", "comm":
		return string(f.AppendDecoded(nil))
	}
	return string(f.Value)
}

func errorName(exit string) string {
	n, err := strconv.Atoi(exit)
	if err != nil {
		return exit
	}
	if name, ok := tables.ErrnoName(-n); ok {
		return name
	}
	switch n { // the kernel's own, which a program does not see
	case -512:
		return "ERESTARTSYS"
	case -513:
		return "ERESTARTNOINTR"
	case -514:
		return "ERESTARTNOHAND"
	case -516:
		return "ERESTART_RESTARTBLOCK"
	}
	return exit
}

// WriteTo writes the tables of system calls, errors, files and processes, each sorted with
// the highest count first.
func (s *Summary) WriteTo(out io.Writer) (int64, error) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")) }
	share := func(n uint64) string {
		return strconv.FormatFloat(100*float64(n)/float64(max(1, s.total.calls)), 'f', 2, 64)
	}
	num := func(n uint64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatUint(n, 10)
	}
	row("% calls", "calls", "errors", "  syscall")
	row("-------", "-----", "------", "  -------")
	for _, k := range sorted(s.calls) {
		row(share(s.calls[k].calls), num(s.calls[k].calls), num(s.calls[k].errors), "  "+k)
	}
	row("-------", "-----", "------", "  -------")
	row(share(s.total.calls), strconv.FormatUint(s.total.calls, 10), num(s.total.errors), "  total")
	if len(s.errors) > 0 {
		row()
		row("errors", "", "", "  error")
		for _, k := range sorted(s.errors) {
			row(num(s.errors[k].errors), "", "", "  "+k)
		}
	}
	for _, section := range []struct {
		name string
		m    map[string]*tally
	}{{"file", s.files}, {"process", s.processes}} {
		if len(section.m) == 0 {
			continue
		}
		row()
		row("", "calls", "errors", "  "+section.name)
		for _, k := range sorted(section.m) {
			row("", num(section.m[k].calls), num(section.m[k].errors), "  "+printable(k))
		}
	}
	w.Flush()
	var lines strings.Builder
	for line := range strings.SplitSeq(strings.TrimSuffix(b.String(), "\n"), "\n") {
		lines.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	n, err := io.WriteString(out, lines.String())
	return int64(n), err
}

func sorted(m map[string]*tally) []string {
	keys := slices.Collect(maps.Keys(m))
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(m[b].calls, m[a].calls), cmp.Compare(m[b].errors, m[a].errors), strings.Compare(a, b))
	})
	return keys
}

// printable keeps a name of a file or program from commanding the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
