package store_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

func heapNow() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// memoryFactor is how far MemBytes may be from the heap, either way.
const memoryFactor = 1.5

// TestTableMemory compares what a table says it takes with the heap: a table is
// handed to the store by that.
func TestTableMemory(t *testing.T) {
	one := func(host, raw string) (string, *event.Event) {
		ev := &event.Event{Records: make([]record.Record, 1)}
		store.ParseRecord(&ev.Records[0], []byte(raw), []byte(host))
		ev.Node, ev.Ms, ev.Serial = ev.Records[0].Node, ev.Records[0].Ms(), ev.Records[0].Serial
		return host, ev
	}
	g := storetest.NewGenerator(1, storetest.Templates(t), 20, storetest.Start)
	for _, c := range []struct {
		name string
		n    int
		make func(i int) (string, *event.Event)
	}{
		{"real events", 20_000, func(int) (string, *event.Event) {
			host, recs := g.Event()
			ev := &event.Event{Records: make([]record.Record, len(recs))}
			for i, r := range recs {
				store.ParseRecord(&ev.Records[i], r, []byte(host))
			}
			ev.Node, ev.Ms, ev.Serial = ev.Records[0].Node, ev.Records[0].Ms(), ev.Records[0].Serial
			return host, ev
		}},
		{"43 bytes an event", 60_000, func(i int) (string, *event.Event) {
			return one("h", fmt.Sprintf("type=SYSCALL msg=audit(1700000.000:%06d): x", i))
		}},
		{"a host an event", 10_000, func(i int) (string, *event.Event) {
			return one(fmt.Sprintf("host%06d", i), fmt.Sprintf("type=SYSCALL msg=audit(1700000.000:%06d): x", i))
		}},
		{"values of their own", 30_000, func(i int) (string, *event.Event) {
			return one("h", fmt.Sprintf("type=SYSCALL msg=audit(1700000.000:%06d): pid=%d ppid=%d exe=\"/b/%d\"", i, i, i+1, i))
		}},
		{"nodes beyond the limit", 30_000, func(i int) (string, *event.Event) {
			_, ev := one("", fmt.Sprintf("node=n%d type=SYSCALL msg=audit(1700000.000:%06d): x", i, i))
			return "", ev
		}},
		{"a sender an event, received apart", 30_000, func(i int) (string, *event.Event) {
			host, ev := one("h", fmt.Sprintf("type=SYSCALL msg=audit(1700000.000:%06d): x", i))
			ev.Records = append(ev.Records, ev.Records[0], ev.Records[0])
			for k := range ev.Records {
				ev.Records[k].Received = int64(1000 * k)
			}
			ev.From = &event.Sender{Addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Transport: event.TransportTCP}
			return host, ev
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := heapNow()
			tab := store.NewTable()
			for i := range c.n {
				tab.Add(c.make(i))
			}
			heap, s := heapNow()-before, tab.Stats()
			f := float64(heap) / float64(s.MemBytes)
			t.Logf("%d bytes of records: %d counted, %d of heap (%.2f)", s.RawBytes, s.MemBytes, heap, f)
			if f > memoryFactor || f < 1/memoryFactor {
				t.Errorf("the heap is %.2f of what is counted", f)
			}
			runtime.KeepAlive(tab)
		})
	}
}
