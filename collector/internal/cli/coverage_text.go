package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// longName is how wide a host's name is on a terminal at most.
const longName = 32

// coverageView is how the text of coverage is written.
type coverageView struct {
	zone   *time.Location
	now    time.Time
	detail bool
	width  int // that a line has, on a terminal: the rest is left to --detail; 0: no bound
	utf8   bool
	color  bool
}

// text writes a line a host, and with detail what is known of it below; on a terminal, with a bar
// of its days.
func (v *coverageView) text(list []*fleet.Coverage) []byte {
	rows := make([][]string, 0, len(list))
	for _, c := range list {
		name := terminal.Clean(string(c.GetHost()))
		if v.width > 0 && !v.detail {
			name = cut(name, longName)
		}
		rows = append(rows, []string{name, stateOf(c)})
	}
	widths := terminal.Widths(rows)
	head := widths[0] + widths[1] + 4
	bars := v.bars(list)
	var out []byte
	for i, c := range list {
		room := 0
		if v.width > 0 {
			if room = v.width - head; bars.width > 0 {
				room -= bars.width + 2
			}
			room = max(20, room)
		}
		line := firstOf(v.parts(c, bars.width == 0), room)
		if bars.width > 0 {
			line = bars.of(c) + "  " + line
		}
		out = append(terminal.AppendRow(out, append(rows[i], line), append(widths, 0), make([]bool, 3)), '\n')
		if v.detail {
			out = v.more(out, c)
		}
	}
	return append(out, bars.legend()...)
}

// firstOf joins as many parts as have room, and as much of the first as has.
func firstOf(parts []string, room int) string {
	line := parts[0]
	if room > 0 {
		line = cut(line, room)
	}
	for _, p := range parts[1:] {
		if room > 0 && terminal.Width(line)+2+terminal.Width(p) > room {
			break
		}
		line += "; " + p
	}
	return line
}

// stateOf is the state with the number that makes it.
func stateOf(c *fleet.Coverage) string {
	switch c.GetState() {
	case "lost":
		if c.GetLost() == 0 { // nobody knows how many
			return "lost"
		}
		return fmt.Sprintf("lost %d", c.GetLost())
	case "pending":
		return fmt.Sprintf("pending %d", c.GetUnsent())
	}
	return c.GetState()
}

var badness = map[string]int{"pending": 1, "unknown": 2, "lost": 3}

// parts are what a host's line says behind its state, the most important first.
func (v *coverageView) parts(c *fleet.Coverage, kept bool) []string {
	causes := slices.Clone(c.GetCauses())
	slices.SortStableFunc(causes, func(a, b *fleet.CoverageCause) int {
		return cmp.Or(badness[b.GetState()]-badness[a.GetState()], cmp.Compare(b.GetRecords(), a.GetRecords()), cmp.Compare(b.GetLengthMs(), a.GetLengthMs()))
	})
	var parts []string
	switch c.GetState() {
	case "complete":
		parts = append(parts, v.fromTo(c.GetFromMs(), c.GetToMs()))
	case "pending":
		parts = append(parts, "held by the host since "+v.clock(c.GetOldestMs()))
	default:
		if c.GetUnheard() {
			return []string{"nothing was ever heard of such a host"}
		}
		for i, x := range causes {
			if i > 0 && badness[x.GetState()] < 2 {
				break
			}
			parts = append(parts, v.cause(x))
		}
	}
	if len(parts) == 0 {
		parts = []string{v.fromTo(c.GetFromMs(), c.GetToMs())}
	}
	if n := c.GetDownMs(); n > 0 && c.GetState() == "unknown" {
		parts = slices.Insert(parts, 1, "not connected since "+v.clock(n))
	}
	if w := weaker(c); w != "" {
		parts = append(parts, w)
	}
	if n := c.GetInvisible(); n > 0 {
		parts = append(parts, fmt.Sprintf("%d processes are older than auditing", n))
	}
	if k := v.kept(c); k != "" && kept {
		parts = append(parts, k)
	}
	return parts
}

// kept says until when all of the time is kept.
func (v *coverageView) kept(c *fleet.Coverage) string {
	switch n := c.GetRetainedUntilMs(); {
	case c.GetHeld():
		return "kept while on hold"
	case n > 0:
		return "kept until " + v.day(n)
	}
	return ""
}

// weaker says how much of a time only the kernel's serials answer for.
func weaker(c *fleet.Coverage) string {
	by, serials := c.GetByStatementsMs(), c.GetBySerialsMs()
	switch {
	case badness[c.GetState()] > 1 || serials == 0 || 100*serials < by+serials:
		return ""
	case by == 0:
		return "by the kernel's serials (weaker)"
	}
	return fmt.Sprintf("%d %% by the kernel's serials (weaker)", 100*serials/(by+serials))
}

// cause words a cause with its time.
func (v *coverageView) cause(x *fleet.CoverageCause) string {
	return amount(x.GetState(), x.GetCause(), x.GetHop(), x.GetRecords()) + v.dropped(x.GetCause(), x.GetDroppedMs(), x.GetWas()) + ", " + v.fromTo(x.GetFromMs(), x.GetToMs())
}

// dropped says when retention dropped records, and what they were.
func (v *coverageView) dropped(cause string, at int64, was string) string {
	if was == "" || at == 0 {
		return ""
	}
	if was == "lost" {
		was = "not complete"
	}
	return fmt.Sprintf(", dropped on %s, %s until then", v.day(at), was)
}

// unitOf is what a cause or note counts.
func unitOf(cause string) string {
	switch cause {
	case "serial-gap", "cut-short":
		return "events"
	case "connection-refused":
		return "connections"
	}
	return "records"
}

// amount words a cause or a note.
func amount(state, cause, hop string, n uint64) string {
	switch {
	case cause == "off":
		return "off (shut down)"
	case n > 0:
		return fmt.Sprintf("%s at %s: %d %s", cause, hop, n, unitOf(cause))
	case state == "lost":
		return fmt.Sprintf("%s at %s: nobody knows how many", cause, hop)
	case state == "complete":
		return cause
	}
	return cause + " at " + hop
}

// more writes what --detail adds below a host's line.
func (v *coverageView) more(out []byte, c *fleet.Coverage) []byte {
	say := func(format string, args ...any) { out = fmt.Appendf(append(out, "    "...), format+"\n", args...) }
	for _, x := range c.GetIntervals() {
		say("%s  %s%s", v.fromTo(x.GetFromMs(), x.GetToMs()), amount(x.GetState(), x.GetCause(), x.GetHop(), x.GetRecords()), v.dropped(x.GetCause(), x.GetDroppedMs(), x.GetWas()))
	}
	for _, x := range c.GetNotes() {
		say("%s  %s (nothing is lost by it)", v.fromTo(x.GetFromMs(), x.GetToMs()), amount("complete", x.GetCause(), x.GetHop(), x.GetRecords()))
	}
	asked := "asked about " + v.fromTo(c.GetFromMs(), c.GetToMs())
	asked += fmt.Sprintf(": %d records of %d events stored", c.GetRecords(), c.GetEventsStored())
	if k := v.kept(c); k != "" {
		asked += ", " + k
	}
	say("%s", asked)
	switch up, down := c.GetUpMs(), c.GetDownMs(); {
	case up > 0:
		say("connected since %s", v.clock(up))
	case down > 0:
		say("not connected since %s", v.clock(down))
	}
	if c.GetRun() != "" {
		say("its forwarder's last word, %s: registered %s, auditing %s, %d records held, %d processes older than auditing", v.clock(c.GetSaidMs()),
			map[bool]string{true: "yes", false: "no"}[c.GetRegistered()], map[bool]string{true: "on", false: "off"}[c.GetEnabled()], c.GetUnsent(), c.GetInvisible())
	}
	return out
}

// clock words a time: to the second, but on a terminal, where --detail does, without what does not
// matter there.
func (v *coverageView) clock(ms int64) string {
	t := time.UnixMilli(ms).In(v.zone)
	switch {
	case v.width == 0 || v.detail:
		return t.Format("2006-01-02 15:04:05")
	case v.now.Sub(t) < 300*24*time.Hour:
		return t.Format("01-02 15:04")
	}
	return t.Format("2006-01-02 15:04")
}

func (v *coverageView) day(ms int64) string {
	return time.UnixMilli(ms).In(v.zone).Format("2006-01-02")
}

// fromTo words a time: the day once where it is the same.
func (v *coverageView) fromTo(from, to int64) string {
	switch {
	case from == 0 && to == 0:
		return "never"
	case from == to:
		return v.clock(from)
	case v.day(from) == v.day(to):
		_, clock, _ := strings.Cut(v.clock(to), " ")
		return v.clock(from) + " to " + clock
	}
	return v.clock(from) + " to " + v.clock(to)
}
