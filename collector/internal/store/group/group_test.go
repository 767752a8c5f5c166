package group

import (
	"fmt"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/query"
)

func codec(t testing.TB) *Codec {
	t.Helper()
	c, err := NewCodec(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func bigTable(t testing.TB, hosts int, mem int64) *store.Table {
	tab := store.NewTable()
	g := storetest.NewGenerator(1, storetest.Templates(t), hosts, storetest.Start)
	for tab.Stats().MemBytes < mem {
		storetest.Fill(tab, g, 1000)
	}
	return tab
}

// BenchmarkSize reports the bytes at rest by component, in percent of the records'.
func BenchmarkSize(b *testing.B) {
	for _, hosts := range []int{1, 50, 1000} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			c := codec(b)
			tab := bigTable(b, hosts, 48<<20)
			var blob []byte
			var sum Summary
			b.ResetTimer()
			for range b.N {
				var err error
				if blob, sum, err = c.Encode(tab); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			g, err := c.Open(blob)
			if err != nil {
				b.Fatal(err)
			}
			pct := func(n uint64) float64 { return 100 * float64(n) / float64(sum.RawBytes) }
			b.ReportMetric(pct(sum.Bytes), "%all")
			b.ReportMetric(pct(sum.IndexBytes), "%index")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(sum.Records), "ns/record")
			b.ReportMetric(float64(sum.RawBytes)/(1<<20), "MB")
			b.ReportMetric(float64(sum.RawBytes)/float64(sum.Records), "B/record")
			for _, s := range g.sections {
				name, n := fmt.Sprintf("section %d", s.kind), 0
				if s.kind == secDict {
					d, _, err := c.splitDict(blob[s.off : s.off+s.len])
					if err != nil {
						b.Fatal(err)
					}
					name, n = query.Field(s.arg).String(), d.n
				}
				if testing.Verbose() {
					fmt.Printf("%-10s %8d bytes %6.3f%%  %d values\n", name, s.len, pct(s.len), n)
				}
			}
		})
	}
}
