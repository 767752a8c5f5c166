package event

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/auditfleet/auditfleet/pkg/record"
)

func heapNow() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// memoryFactor is how far what is counted may be from the heap, either way.
const memoryFactor = 1.5

// TestBytesAreMemory fills an Assembler with what is smallest beside its cost, and
// compares what it counts with the heap; then with nothing open there is next to
// nothing left.
func TestBytesAreMemory(t *testing.T) {
	// 43 bytes a record, as a sender would choose them to take the most for the least.
	short := func(i int) []byte { return fmt.Appendf(nil, "type=SYSCALL msg=audit(1700000.000:%06d): x", i) }
	for _, c := range []struct {
		name string
		n    int
		line func(i int) []byte
		own  int // records a piece of memory
	}{
		{"an event a record", 10_000, short, 1},
		{"one event", 50_000, func(int) []byte { return short(1) }, 1},
		{"a hundred records an event", 50_000, func(i int) []byte { return short(i / 100) }, 1},
		{"seven records an event", 20_000, func(i int) []byte { return short(i / 7) }, 1},
		{"a node an event", 10_000, func(i int) []byte { return fmt.Appendf(nil, "node=n%d %s", i, short(i)) }, 1},
		{"long records", 2_000, func(i int) []byte { return append(short(i), bytes.Repeat([]byte{'x'}, 3000)...) }, 1},
		{"of a thousand that came together one stays", 500_000, short, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := heapNow()
			a := NewAssembler(Config{MaxEvents: 1 << 30, MaxBytes: 1 << 40}, func(*Event) {})
			now := time.Unix(1, 0)
			raw := 0
			for i := 0; i < c.n; i += c.own {
				var piece []byte
				for k := range c.own {
					piece = append(piece, c.line(i+k)...)
				}
				line := piece[:len(c.line(i)):len(c.line(i))]
				var r record.Record
				if err := r.Parse(line); err != nil {
					t.Fatal(err)
				}
				raw += len(line)
				a.Add(&r, uint64(i), now)
				if c.own > 1 {
					a.Own(uint64(i))
				}
			}
			heap, counted := heapNow()-before, a.Bytes()
			t.Logf("%d bytes of records: %d counted, %d of heap (%.2f)", raw, counted, heap, float64(heap)/float64(counted))
			if f := float64(heap) / float64(counted); f > memoryFactor || f < 1/memoryFactor {
				t.Errorf("the heap is %.2f of what is counted", f)
			}
			a.Flush()
			if left := heapNow() - before; left > 64<<10 || a.Bytes() != 0 {
				t.Errorf("nothing is open: %d bytes of heap are left, %d are counted", left, a.Bytes())
			}
			runtime.KeepAlive(a)
		})
	}
	if n := unsafe.Sizeof(record.Record{}); n != recordCost {
		t.Errorf("a record takes %d bytes, recordCost is %d", n, recordCost)
	}
}

// TestOwn keeps records right when what they lay in is written over.
func TestOwn(t *testing.T) {
	var out []*Event
	a := NewAssembler(Config{}, func(ev *Event) { out = append(out, ev) })
	var pieces [][]byte
	host := []byte("host")
	add := func(tag uint64, line string, own bool) {
		piece := []byte(line)
		pieces = append(pieces, piece)
		var r record.Record
		if err := r.Parse(piece); err != nil {
			t.Fatal(err)
		}
		r.Raw = piece
		if r.Node == nil {
			r.Node = host
		}
		a.Add(&r, tag, time.Time{})
		if own {
			a.Own(tag)
		}
	}
	add(1, "node=a type=SYSCALL msg=audit(1.000:1): a=1\n", true)
	add(2, "type=SYSCALL msg=audit(1.000:1): b=1", true)
	add(3, "node=a type=PATH msg=audit(1.000:1): c=1\x1dD=2", true)
	add(4, "node=a type=SYSCALL msg=audit(1.000:2): d=1", true)
	for _, p := range pieces {
		for i := range p {
			p[i] = '?'
		}
	}
	a.Flush()
	got := ""
	for _, ev := range out {
		got += string(ev.Node) + ":"
		for i := range ev.Records {
			r := &ev.Records[i]
			got += fmt.Sprintf(" %q/%s/%s/%s/%s", r.Raw, r.Node, r.TypeName, r.Body, r.Enriched)
		}
		got += "\n"
	}
	want := `a: "node=a type=SYSCALL msg=audit(1.000:1): a=1\n"/a/SYSCALL/a=1/ "node=a type=PATH msg=audit(1.000:1): c=1\x1dD=2"/a/PATH/c=1/D=2
host: "type=SYSCALL msg=audit(1.000:1): b=1"/host/SYSCALL/b=1/
a: "node=a type=SYSCALL msg=audit(1.000:2): d=1"/a/SYSCALL/d=1/
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// An event that gets a record a second does not stay open for ever.
func TestMaxAge(t *testing.T) {
	var out []int
	a := NewAssembler(Config{MaxAge: 10 * time.Second}, func(ev *Event) { out = append(out, len(ev.Records)) })
	now := time.Unix(1, 0)
	for i := range 35 {
		var r record.Record
		if err := r.Parse([]byte("node=evil type=SYSCALL msg=audit(1.000:1): x")); err != nil {
			t.Fatal(err)
		}
		a.Add(&r, uint64(i), now)
		now = now.Add(time.Second)
		a.Tick(now)
	}
	if s := a.Stats(); fmt.Sprint(out) != "[10 10 10]" || s.Aged != 3 {
		t.Errorf("events of %d records, %+v", out, s)
	}
}
