package event

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// model is the Assembler without any of its structures: a slice of open events
// that is searched from one end to the other.
type model struct {
	cfg   Config
	open  []*modelEvent
	seq   int
	out   []string
	stats Stats
	seen  map[string][]modelStamp // by node

	latest map[string]*modelEvent // by node: that got its last record
}

// modelStamp is a record's time.
type modelStamp struct {
	ms     int64
	begins bool
}

// clock is the time at a node, by all that was seen of it.
func (m *model) clock(node string) (at int64) {
	var behind []int64
	for _, s := range m.seen[node] {
		switch {
		case at == 0 || s.ms > at-m.cfg.Timeout.Milliseconds():
			at, behind = max(at, s.ms), nil
		case s.begins:
			if behind = append(behind, s.ms); len(behind) == setBack {
				at, behind = slices.Max(behind), nil
			}
		}
	}
	return at
}

func (m *model) extend(o *modelEvent) {
	o.due = max(o.due, max(o.ms, m.clock(o.node))+m.cfg.Timeout.Milliseconds())
}

type modelEvent struct {
	node      string // "-" without node=
	ms        int64
	serial    uint64
	lines     []string
	tags      []uint64
	text, seq int
	due       int64
	room      Event // grows as an event does
	opened    time.Time
	touched   time.Time
}

func nodeName(b []byte) string {
	if b == nil {
		return "-"
	}
	return "=" + string(b)
}

func (m *model) finish(o *modelEvent) {
	m.open = slices.DeleteFunc(m.open, func(p *modelEvent) bool { return p == o })
	m.out = append(m.out, fmt.Sprint(o.node, o.ms, o.serial, o.lines, o.tags))
}

// least returns the first of the open events that pick takes, by less.
func (m *model) least(less func(x, y *modelEvent) bool, pick func(*modelEvent) bool) *modelEvent {
	var best *modelEvent
	for _, o := range m.open {
		if pick(o) && (best == nil || less(o, best)) {
			best = o
		}
	}
	return best
}

func byDue(x, y *modelEvent) bool {
	if x.due != y.due {
		return x.due < y.due
	}
	return inTime(x, y)
}

func inTime(x, y *modelEvent) bool {
	if x.ms != y.ms {
		return x.ms < y.ms
	}
	if x.serial != y.serial {
		return x.serial < y.serial
	}
	return x.seq < y.seq
}

// add; m.open is kept in order of last use.
func (m *model) add(r *record.Record, tag uint64, now time.Time) {
	m.seq++
	one := &modelEvent{node: nodeName(r.Node), ms: r.Ms(), serial: r.Serial, text: textCost(len(r.Raw)), seq: m.seq, opened: now}
	one.room = newEvent(r).withRecord()
	one.lines, one.tags = []string{string(r.Raw)}, []uint64{tag}
	if r.Err != nil {
		m.out = append(m.out, fmt.Sprint(one.node, one.ms, one.serial, one.lines, one.tags))
		return
	}
	same := func(o *modelEvent) bool {
		return o.node == one.node && o.ms == one.ms && o.serial == one.serial
	}
	if o := m.least(inTime, same); o != nil && m.cfg.MaxAge > 0 && now.Sub(o.opened) >= m.cfg.MaxAge {
		m.stats.Aged++
		m.finish(o)
	}
	o := m.least(inTime, same)
	if m.seen == nil {
		m.seen, m.latest = map[string][]modelStamp{}, map[string]*modelEvent{}
	}
	m.seen[one.node] = append(m.seen[one.node], modelStamp{one.ms, o == nil})
	if p := m.latest[one.node]; p != nil && p != o && slices.Contains(m.open, p) {
		m.extend(p)
	}
	m.latest[one.node] = nil
	for {
		late := m.least(byDue, func(o *modelEvent) bool { return o.node == one.node && o.due <= one.ms })
		if late == nil {
			break
		}
		m.finish(late)
	}
	if o == nil {
		o = one
		if IsSingle(r.Type) {
			m.finish(o)
			return
		}
	} else {
		m.open = slices.DeleteFunc(m.open, func(p *modelEvent) bool { return p == o })
		o.lines, o.tags, o.text, o.room = append(o.lines, one.lines[0]), append(o.tags, tag), o.text+one.text, o.room.withRecord()
	}
	m.open = append(m.open, o)
	o.touched = now
	m.extend(o)
	m.latest[o.node] = o
	if isLast(r.Type) {
		m.finish(o)
		return
	}
	for len(m.open) > m.cfg.MaxEvents || m.bytes() > m.cfg.MaxBytes {
		if len(m.open) > m.cfg.MaxEvents {
			m.stats.Evicted++
		} else {
			m.stats.Oversize++
		}
		m.finish(m.open[0])
	}
}

// withRecord is an event after one more record.
func (e Event) withRecord() Event {
	e.Records, e.tags = append(e.Records, record.Record{}), append(e.tags, 0)
	return e
}

// bytes is the memory of what is open.
func (m *model) bytes() (n int) {
	nodes := map[string]bool{}
	for _, o := range m.open {
		n += eventCost + o.text + spilled(&o.room)
		if !nodes[o.node] {
			nodes[o.node] = true
			n += nodeCost([]byte(o.node[1:]))
		}
	}
	return n
}

func (m *model) tick(now time.Time) {
	for len(m.open) > 0 && now.Sub(m.open[0].touched) >= m.cfg.Timeout {
		m.finish(m.open[0])
	}
}

func (m *model) flush() {
	for len(m.open) > 0 {
		m.finish(m.least(inTime, func(*modelEvent) bool { return true }))
	}
}

// genLine makes a record of few nodes, times and serials, so that they meet.
func genLine(t *rapid.T) []byte {
	if rapid.IntRange(0, 30).Draw(t, "odd") == 0 {
		return []byte(rapid.SampledFrom([]string{"no record", "type=PATH msg=audit(7.1", "msg=audit(1.000:1): x"}).Draw(t, "bad"))
	}
	typ := rapid.SampledFrom([]uint16{
		tables.Syscall, tables.Path, tables.Path, tables.CWD, tables.Proctitle, tables.EOE, tables.UserLogin, tables.Login,
		tables.Kernel, tables.AnomLink, 2100, tables.MACUnlblAllow, tables.MACStatus, 1999,
	}).Draw(t, "type")
	name := tables.TypeName(typ)
	if typ == 1999 {
		name = "BRAND_NEW"
	}
	node := rapid.SampledFrom([]string{"", "", "node=a ", "node=b ", "node= "}).Draw(t, "node")
	return fmt.Appendf(nil, "%stype=%s msg=audit(%d.%03d:%d): a=1", node, name,
		rapid.IntRange(100, 105).Draw(t, "sec"), rapid.SampledFrom([]int{0, 0, 500, 999}).Draw(t, "ms"),
		rapid.IntRange(1, 3).Draw(t, "serial"))
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{
			Timeout:   rapid.SampledFrom([]time.Duration{time.Second, 2 * time.Second}).Draw(t, "timeout"),
			MaxEvents: rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "max events"),
			MaxBytes:  rapid.SampledFrom([]int{2000, 6000, 1 << 20}).Draw(t, "max bytes"),
			MaxAge:    rapid.SampledFrom([]time.Duration{0, 0, 1500 * time.Millisecond}).Draw(t, "max age"),
		}
		m := &model{cfg: cfg}
		var out []string
		a := NewAssembler(cfg, func(ev *Event) {
			var lines []string
			for i := range ev.Records {
				lines = append(lines, string(ev.Records[i].Raw))
			}
			out = append(out, fmt.Sprint(nodeName(ev.Node), ev.Ms, ev.Serial, lines, ev.tags))
		})
		now := time.Unix(1000, 0)
		var last []byte
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				now = now.Add(700 * time.Millisecond)
				a.Tick(now)
				m.tick(now)
			case 1, 2:
				if last != nil { // one more of the same event
					break
				}
				fallthrough
			default:
				last = genLine(t)
			}
			var r record.Record
			_ = r.Parse(last)
			if last != nil {
				a.Add(&r, uint64(i), now)
				m.add(&r, uint64(i), now)
			}
			checkOpen(t, a, m)
		}
		a.Flush()
		m.flush()
		if diff := cmp.Diff(m.out, out); diff != "" {
			t.Fatalf("(-model +got)\n%s", diff)
		}
		if diff := cmp.Diff(m.stats, a.Stats()); diff != "" {
			t.Fatalf("(-model +got)\n%s", diff)
		}
		checkOpen(t, a, m)
		if a.Len() != 0 || a.Bytes() != 0 || len(a.open) != 0 || a.last != nil {
			t.Fatalf("after Flush: %d events, %d bytes, %d open", a.Len(), a.Bytes(), len(a.open))
		}
		checkKnown(t, a)
	})
}

// checkKnown says that an Assembler without open events has no nodes but those that it knows, each in both places.
func checkKnown(t *rapid.T, a *Assembler) {
	known, listed := 0, 0
	for i, n := range a.known {
		if n == nil {
			continue
		}
		known++
		if n.refs != 0 || n.place != i || len(n.heap) != 0 || n.latest != nil || a.findNode(n.name) != n {
			t.Fatalf("node %q in place %d is in use: %+v", n.name, i, n)
		}
	}
	for _, n := range a.nodes {
		for ; n != nil; n = n.next {
			listed++
		}
	}
	if listed != known {
		t.Fatalf("%d nodes, %d are known", listed, known)
	}
}

func checkOpen(t *rapid.T, a *Assembler, m *model) {
	if a.Len() != len(m.open) || a.Bytes() != m.bytes() {
		t.Fatalf("%d events of %d bytes open, want %d of %d", a.Len(), a.Bytes(), len(m.open), m.bytes())
	}
	if a.Len() > a.cfg.MaxEvents || a.Bytes() > a.cfg.MaxBytes {
		t.Fatalf("%d events of %d bytes are more than allowed", a.Len(), a.Bytes())
	}
	var want []uint64
	for _, o := range m.open {
		want = append(want, o.tags...)
	}
	got := a.OpenTags(nil)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Fatalf("open tags %d, want %d", got, want)
	}
}

// TestInterleaving: in whatever order records of several events come, as long as
// each event's own stay in theirs, the same events come out.
func TestInterleaving(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var queues [][]string
		var want []string
		for i := range rapid.IntRange(1, 8).Draw(t, "events") {
			head := fmt.Sprintf("msg=audit(100.%03d:%d): ", rapid.IntRange(0, 3).Draw(t, "ms"), i/2)
			node := rapid.SampledFrom([]string{"", "node=a ", "node=b "}).Draw(t, "node")
			if i%2 == 1 {
				node = "node=c "
			}
			q := []string{node + "type=SYSCALL " + head}
			for j := range rapid.IntRange(0, 12).Draw(t, "paths") {
				q = append(q, fmt.Sprintf("%stype=PATH %sitem=%d", node, head, j))
			}
			if rapid.Bool().Draw(t, "ends") {
				q = append(q, node+"type=PROCTITLE "+head)
			}
			queues = append(queues, q)
			want = append(want, fmt.Sprint(q))
		}
		var got []string
		a := NewAssembler(Config{}, func(ev *Event) {
			var lines []string
			for i := range ev.Records {
				lines = append(lines, string(ev.Records[i].Raw))
			}
			got = append(got, fmt.Sprint(lines))
		})
		for len(queues) > 0 {
			i := rapid.IntRange(0, len(queues)-1).Draw(t, "next")
			var r record.Record
			if err := r.Parse([]byte(queues[i][0])); err != nil {
				t.Fatal(err)
			}
			before := len(got)
			a.Add(&r, 0, time.Time{})
			if (r.Type == tables.Proctitle) != (len(got) == before+1) {
				t.Fatalf("%s: %d events came out", r.Raw, len(got)-before)
			}
			if queues[i] = queues[i][1:]; len(queues[i]) == 0 {
				queues = slices.Delete(queues, i, i+1)
			}
		}
		a.Flush()
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
	})
}
