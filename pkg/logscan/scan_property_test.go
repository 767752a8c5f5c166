package logscan

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// oddLog makes a log with all that makes reading in pieces hard: events that
// interleave and reach over any boundary, clocks that jump, the same serial on
// several hosts and again later, EOE without an event, damaged and endless lines.
func oddLog(r *rand.Rand, lines int) []byte {
	var b bytes.Buffer
	sec, serial := int64(1795337601), uint64(100)
	type open struct {
		head string
		left int
	}
	var opened []open
	nodes := []string{"", "", "node=web1 ", "node=db-2 ", "node= ", "node=web1  "}
	types := []string{"SYSCALL", "SYSCALL", "CWD", "PATH", "USER_LOGIN", "PROCTITLE", "EOE", "UNKNOWN[1399]", "NOSUCH", "LOGIN", "DAEMON_START", "MAC_CALIPSO_ADD", "ANOM_LINK", ""}
	for range lines {
		switch x := r.IntN(100); {
		case x < 4:
			sec += int64(r.IntN(5))
		case x < 6:
			sec -= int64(r.IntN(4))
		case x == 6:
			sec += int64(r.IntN(100000)) - 50000
		}
		if len(opened) == 0 || r.IntN(4) == 0 {
			if r.IntN(6) > 0 {
				serial += uint64(r.IntN(3))
			}
			head := fmt.Sprintf("%s\x00msg=audit(%d.%03d:%d): ", nodes[r.IntN(len(nodes))], sec, r.IntN(3), serial)
			opened = append(opened, open{head, 1 + r.IntN(6)})
		}
		i := r.IntN(len(opened))
		if r.IntN(3) > 0 {
			i = len(opened) - 1
		}
		o := &opened[i]
		b.WriteString(oddLine(r, types[r.IntN(len(types))], o.head))
		if o.left--; o.left == 0 {
			opened = slices.Delete(opened, i, i+1)
		}
	}
	if r.IntN(3) == 0 && b.Len() > 0 {
		b.Truncate(b.Len() - 1 - r.IntN(min(b.Len()-1, 20)+1)*r.IntN(2))
	}
	return b.Bytes()
}

func oddLine(r *rand.Rand, typ, head string) string {
	node, stamp, _ := bytes.Cut([]byte(head), []byte{0})
	body := fmt.Sprintf(`pid=%d uid=%d key="opens" name="/etc/f%d" n=%d`, r.IntN(9)+300, r.IntN(3), r.IntN(9), r.IntN(1000))
	if r.IntN(7) == 0 {
		body += "\x1dUID=\"root\""
	}
	text := fmt.Sprintf("%stype=%s %s%s", node, typ, stamp, body)
	switch r.IntN(60) {
	case 0:
		text = text[:r.IntN(len(text))]
	case 1:
		text = text[r.IntN(len(text)):]
	case 2:
		at := r.IntN(len(text))
		text = text[:at] + string(rune(r.IntN(256))) + text[at+1:]
	case 3:
		text += string(bytes.Repeat([]byte{'x'}, r.IntN(2*maxLine)))
	case 4:
		text = ""
	case 5:
		text = fmt.Sprintf("type=%s msg=audit(%d.5:12345678901234567890123): x", typ, r.Uint64())
	case 6:
		text += "\nother words"
	}
	return text + "\n"
}

// listing is a Worker that lists events with all that can be told apart.
type listing struct{ events []string }

func (l *listing) Event(ev *event.Event) error {
	l.events = append(l.events, eventText(ev))
	return nil
}

func (l *listing) Flush() ([]string, error) {
	events := l.events
	l.events = nil
	return events, nil
}

// scanAll is a scan by workers, in chunks of some size.
func scanAll(t *testing.T, s *scanner, q *query.Query, workers int) (events []string) {
	t.Helper()
	err := inOrder(t.Context(), Config{Query: q, Workers: workers}, s.run,
		func() (Worker[[]string], error) { return &listing{}, nil },
		func(found []string) error { events = append(events, found...); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// TestChunkedIsSequential: however a log is cut up and shared out, the same events
// come out in the same order as from one that is looked at line by line.
func TestChunkedIsSequential(t *testing.T) {
	seed := need.Seed(t)
	r := rand.New(rand.NewPCG(seed, 77))
	rounds := need.Rounds(120, 30)
	term := func(f query.Field, op query.Op, text string) query.Term {
		return query.Term{Fields: []query.Field{f}, Op: op, Text: text}
	}
	queries := []*query.Query{
		{Terms: []query.Term{term(query.FieldKey, query.OpContains, "opens")}}, {Terms: []query.Term{term(query.FieldPID, query.OpEqual, "304")}}, {Types: []uint32{1112}},
		{Types: []uint32{1300, 1307}, Terms: []query.Term{term(query.FieldFile, query.OpContains, "/etc/f3")}}, {Terms: []query.Term{term(query.FieldFile, query.OpContains, "f7")}},
		{Serial: 101, HasSerial: true}, {Nodes: []string{"web1"}, Terms: []query.Term{term(query.FieldKey, query.OpContains, "open")}},
	}
	total := 0
	for round := range rounds {
		var logs [][]byte
		for range 1 + r.IntN(3) {
			logs = append(logs, oddLog(r, r.IntN(300)))
		}
		if round == 0 {
			logs = [][]byte{nil, []byte("\n"), []byte("x")}
		}
		cfg := ReadConfig{}
		if r.IntN(3) == 0 {
			cfg.StartMs, cfg.EndMs = 1795337600_000+int64(r.IntN(20_000)), 1795337620_000
		}
		plain := modelScan(cfg, logs...)
		var want []string
		for _, ev := range plain.out {
			want = append(want, eventText(ev))
		}
		total += len(want)
		s := &scanner{n: 1 + r.IntN(4), chunk: 1 + r.IntN(64<<r.IntN(11)), pinned: 1 + r.IntN(3)*r.IntN(40), filter: newPrefilter(nil)}
		open := func() (in []io.Reader) {
			for _, log := range logs {
				if r.IntN(4) == 0 {
					in = append(in, stutter{bytes.NewReader(log), r})
					continue
				}
				in = append(in, tempLog(t, log))
			}
			return in
		}
		var skipped []string
		s.logs, s.cfg = open(), cfg
		s.cfg.Skipped = func(line []byte, err error) { skipped = append(skipped, skippedText(line, err)) }
		same(t, seed, round, "in chunks", want, scanAll(t, s, nil, 1+r.IntN(4)))
		same(t, seed, round, "skipped lines", plain.skipped, skipped)

		var got []string
		logsAgain := &Logs{readers: open()}
		keep := func(ev *event.Event) error { got = append(got, eventText(ev)); return nil }
		if _, err := logsAgain.ReadComplete(t.Context(), cfg, keep, func(ev *event.Event, _ bool) error { return keep(ev) }); err != nil {
			t.Fatal(err)
		}
		same(t, seed, round, "complete ones, then open ones", want, got)

		q := queries[r.IntN(len(queries))]
		want = want[:0]
		for _, ev := range plain.out {
			if query.NewMatcher(q).Match(ev) {
				want = append(want, eventText(ev))
			}
		}
		s = &scanner{n: s.n, chunk: s.chunk, filter: newPrefilter(q), logs: open(), cfg: cfg}
		same(t, seed, round, fmt.Sprintf("%+v", q), want, scanAll(t, s, q, 2))
	}
	t.Logf("%d events", total)
}

func same(t *testing.T, seed uint64, round int, what string, want, got []string) {
	t.Helper()
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || want[i] != got[i] {
			var w, g string
			if i < len(want) {
				w = want[i]
			}
			if i < len(got) {
				g = got[i]
			}
			t.Fatalf("seed %d, round %d, %s: %d, want %d; at %d\n got %s\nwant %s", seed, round, what, len(got), len(want), i, g, w)
		}
	}
}

// stutter is a stream that comes in pieces.
type stutter struct {
	r    io.Reader
	rand *rand.Rand
}

func (s stutter) Read(p []byte) (int, error) {
	if s.rand.IntN(3) == 0 {
		return iotest.OneByteReader(s.r).Read(p)
	}
	return s.r.Read(p[:min(len(p), 1+s.rand.IntN(3000))])
}

func tempLog(t *testing.T, log []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, log, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
