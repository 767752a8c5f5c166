package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

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
