package cli

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// sentLine is a line of a log, its event and the host that sends it.
type sentLine struct {
	host, event int
	line        string
}

// sameLog is a log in the order in which it is written and sent.
type sameLog struct {
	sent    []sentLine
	inOrder bool   // a file gives its events in the order of a store
	unnamed string // what its sender goes by: no record has a node=
}

// write writes the log as a file.
func (l *sameLog) write(t *testing.T, path string) {
	t.Helper()
	var b strings.Builder
	for _, s := range l.sent {
		b.WriteString(s.line + "\n")
	}
	writeFile(t, path, b.String())
}

// named is the log as its sender would write it if it named itself.
func (l *sameLog) named() *sameLog {
	out := &sameLog{inOrder: l.inOrder}
	for _, s := range l.sent {
		if !slices.Contains(notRecords, s.line) {
			s.line = "node=" + l.unnamed + " " + s.line
		}
		out.sent = append(out.sent, s)
	}
	return out
}

// events are the numbers of the log's events.
func (l *sameLog) events() (all []int) {
	seen := map[int]bool{}
	for _, s := range l.sent {
		if !seen[s.event] {
			seen[s.event] = true
			all = append(all, s.event)
		}
	}
	return all
}

// of is the log of some of its events.
func (l *sameLog) of(events []int) *sameLog {
	keep := map[int]bool{}
	for _, e := range events {
		keep[e] = true
	}
	out := &sameLog{inOrder: l.inOrder, unnamed: l.unnamed}
	for _, s := range l.sent {
		if keep[s.event] {
			out.sent = append(out.sent, s)
		}
	}
	return out
}

// sameWays are the ways in which a log is given to both.
var sameWays = []struct {
	name string
	make func(r *rand.Rand, log, other string) *sameLog
}{
	{"two hosts", func(_ *rand.Rand, log, other string) *sameLog {
		return spaced(hostOf(log, 0, "web1", false), hostOf(other, 1, "db1", true))
	}},
	{"without node=", func(_ *rand.Rand, log, _ string) *sameLog {
		l := spaced(hostOf(log, 0, "", true), nil)
		l.unnamed = "web1"
		return l
	}},
	{"as it is", func(r *rand.Rand, log, other string) *sameLog {
		return mixed(r, hostOf(log, 0, "web1", false), hostOf(other, 1, "db1", true))
	}},
}

// hostOf is the lines of a log that are records, with the events they belong to. node is
// put before lines that name no host; with force, before those of one host, and the
// others are left out.
func hostOf(log string, host int, node string, force bool) (out []sentLine) {
	events := map[string]int{}
	var first *record.Record
	for line := range strings.Lines(log) {
		line = strings.TrimSuffix(line, "\n")
		var rec record.Record
		if rec.Parse([]byte(line)) != nil || rec.Type == tables.EOE { // which no sender sends
			continue
		}
		if first == nil {
			first = &rec
		}
		if force && string(rec.Node) != string(first.Node) {
			continue
		}
		if rec.Node != nil && force {
			_, line, _ = strings.Cut(line, " ")
		}
		if node != "" && (rec.Node == nil || force) {
			line = "node=" + node + " " + line
		}
		id := fmt.Sprintf("%s %d %d", rec.Node, rec.Ms(), rec.Serial)
		if _, ok := events[id]; !ok {
			events[id] = host + 2*len(events)
		}
		out = append(out, sentLine{host, events[id], line})
	}
	return out
}

// spaced puts the events of two hosts one behind the other by turns, 3 s apart, so that
// each is complete before the next begins.
func spaced(a, b []sentLine) *sameLog {
	l := &sameLog{inOrder: true}
	of := map[int][]string{}
	var order []int
	for _, s := range slices.Concat(a, b) {
		if of[s.event] == nil {
			order = append(order, s.event)
		}
		of[s.event] = append(of[s.event], s.line)
	}
	slices.SortStableFunc(order, func(x, y int) int { return x/2 - y/2 })
	for i, e := range order {
		for _, line := range of[e] {
			l.sent = append(l.sent, sentLine{e % 2, e, restamped(line, 1_795_000_000+int64(i)*3)})
		}
	}
	return l.ended(1_795_000_000 + int64(len(order))*3)
}

// restamped is a line with another second.
func restamped(line string, sec int64) string {
	before, after, _ := strings.Cut(line, "audit(")
	_, after, _ = strings.Cut(after, ".")
	return before + "audit(" + strconv.FormatInt(sec, 10) + "." + after
}

// mixed sends the lines of two hosts by turns as they come, both from the same second on.
func mixed(r *rand.Rand, a, b []sentLine) *sameLog {
	l := &sameLog{}
	if jumps(a) || jumps(b) {
		return l // what belongs together is then another's to say
	}
	if len(a) > 0 {
		by := secOf(a[0].line) - secOf(orFirst(b, a[0]).line)
		for i := range b {
			b[i].line = restamped(b[i].line, secOf(b[i].line)+by)
		}
	}
	last := int64(0)
	for len(a)+len(b) > 0 {
		from := &a
		if len(a) == 0 || len(b) > 0 && secOf(b[0].line) < secOf(a[0].line)+int64(r.IntN(2)) {
			from = &b
		}
		last = max(last, secOf((*from)[0].line))
		l.sent = append(l.sent, (*from)[0])
		*from = (*from)[1:]
	}
	for i := range len(l.sent) - 1 { // as several processors write them
		if a, b := l.sent[i], l.sent[i+1]; a.event != b.event && secOf(a.line) == secOf(b.line) && r.IntN(4) == 0 {
			l.sent[i], l.sent[i+1] = b, a
		}
	}
	return l.ended(last + 3)
}

// notRecords are lines that logs have between records: both leave them out.
var notRecords = []string{"----", "", "# a comment", "time->Sun Nov 22 08:57:14 2026", "<no matches>", "type=", "msg=audit("}

// sprinkled is a log with such lines among its events.
func (l *sameLog) sprinkled(r *rand.Rand) *sameLog {
	out := *l
	out.sent = nil
	for i, s := range l.sent {
		if i > 0 && r.IntN(10) == 0 {
			out.sent = append(out.sent, sentLine{s.host, -1_000_000 - i, notRecords[r.IntN(len(notRecords))]})
		}
		out.sent = append(out.sent, s)
	}
	return &out
}

// jumps says whether a log's clock goes backwards.
func jumps(lines []sentLine) bool {
	last := int64(0)
	for _, s := range lines {
		sec := secOf(s.line)
		if sec < last {
			return true
		}
		last = sec
	}
	return false
}

func orFirst(list []sentLine, other sentLine) sentLine {
	if len(list) > 0 {
		return list[0]
	}
	return other
}

func secOf(line string) int64 {
	var rec record.Record
	_ = rec.Parse([]byte(line))
	return rec.Sec
}

// ended is a log with a record of every host behind it, so that all other events are
// complete.
func (l *sameLog) ended(sec int64) *sameLog {
	type stream struct {
		host int
		node string
	}
	seen := map[stream]bool{}
	for i, s := range slices.Clone(l.sent) {
		node := ""
		if strings.HasPrefix(s.line, "node=") {
			node, _, _ = strings.Cut(s.line, " ")
			node += " "
		}
		if !seen[stream{s.host, node}] {
			seen[stream{s.host, node}] = true
			l.sent = append(l.sent, sentLine{s.host, -1 - i, fmt.Sprintf("%stype=KERNEL msg=audit(%d.000:%d): the end", node, sec+int64(3*len(seen)), 900000+i)})
		}
	}
	return l
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
