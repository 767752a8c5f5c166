package clickhouse

import (
	"fmt"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
)

// BenchmarkAppend stores batches of 5000 events, divided into so many classes; 0: not divided.
func BenchmarkAppend(b *testing.B) {
	for _, shape := range []cluster.Shape{{}, {Replicas: 3}} {
		c := cluster.Start(b, shape)
		for _, classes := range []int{0, 3, 20} {
			b.Run(fmt.Sprintf("%d replicas/%d classes", max(1, shape.Replicas), classes), func(b *testing.B) {
				e, day, id := engineOf(b, address(b, c), "x"), store.DayOf(storetest.Start), uint64(0)
				list := make([]*store.Sealed, 0, b.N+1)
				tab := benchTable(64)
				for range b.N + 1 {
					id++
					if classes == 0 {
						list = append(list, sealed(id, tab))
						continue
					}
					x, _ := dividedBatch(b, id, day, tab, benchClasses(classes))
					list = append(list, x)
				}
				must(b, e.Append(b.Context(), list[0]))
				b.ResetTimer()
				for _, x := range list[1:] {
					must(b, e.Append(b.Context(), x))
				}
			})
		}
	}
}

// benchClasses are so many classes of hosts, without the rest's.
func benchClasses(n int) (classes store.Classes) {
	for i := range n - 1 {
		classes = append(classes, store.Class{Hosts: fmt.Sprintf("host%d", i)})
	}
	return classes
}

// benchTable has 5000 events of so many hosts, as hosts send them.
func benchTable(hosts int) *store.Table {
	from, tab := store.NewTable(), store.NewTable()
	storetest.Fill(from, storetest.NewGenerator(1, storetest.Templates(&testing.B{}), 3, storetest.Start), 5000)
	n := 0
	for _, h := range from.Hosts() {
		for _, i := range h.Order() {
			e := &h.Events[i]
			name := fmt.Sprintf("host%d", n%hosts)
			tab.Add(name, store.ParseText(e.Text, e.Counted, []byte(name), e.Origin))
			n++
		}
	}
	return tab
}

// BenchmarkSeal makes the group of such a batch, with the root of its events.
func BenchmarkSeal(b *testing.B) {
	codec, err := group.NewCodec(1)
	must(b, err)
	defer codec.Close()
	tab := benchTable(64)
	for name, classes := range map[string]store.Classes{"undivided": nil, "3 of hosts": benchClasses(3), "with a key": {{Hosts: "host1"}, {Key: "*a*"}}, "64": benchClasses(64)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if classes == nil {
					_, _, _, err = codec.EncodeWithRoot(tab)
				} else {
					_, _, _, err = codec.EncodeDivided(tab, tab.Divide(classes), true)
				}
				must(b, err)
			}
		})
	}
}
