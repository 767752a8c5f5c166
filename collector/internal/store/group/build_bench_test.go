package group

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// day calls fn with a day's events of a fleet, host by host, raw bytes of records in all: as a Builder gets them.
func day(t testing.TB, hosts, raw int, fn func(host string, batch uint64, ev *event.Event)) {
	templates := storetest.Templates(t)
	const most = 900
	for h := range hosts {
		name := fmt.Sprintf("web%04d.example.net", h)
		g := storetest.NewGenerator(uint64(h), templates, 1, storetest.Start)
		events := raw / hosts / most
		g.Step(int64(2 * 86400e3 / max(1, events)))
		var ev event.Event
		from := &event.Sender{Transport: event.TransportTCP, Addr: event.SenderAddr(storetest.Addr(h))}
		for size := 0; size < raw/hosts; {
			_, raws := g.Event()
			ev.Records = ev.Records[:0]
			for _, r := range raws {
				r = bytes.Replace(r, []byte("web1.example.net"), []byte(name), 1)
				ev.Records = append(ev.Records, record.Record{})
				store.ParseRecord(&ev.Records[len(ev.Records)-1], r, []byte(name))
				size += len(r)
			}
			ev.Node, ev.Ms, ev.Serial, ev.From = []byte(name), ev.Records[0].Ms(), ev.Records[0].Serial, from
			for i := range ev.Records {
				ev.Records[i].Received = ev.Ms + 2 + int64(ev.Serial%4)
			}
			fn(name, 1+uint64(ev.Ms-storetest.Start.UnixMilli())/600e3, &ev)
		}
	}
}

// BenchmarkBuild reports the bytes at rest by component, in percent of the records', and what building takes, reading the events not counted.
func BenchmarkBuild(b *testing.B) {
	for _, hosts := range []int{1, 50, 1000} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			c := codec(b)
			raw := need.Size(256<<20, 64<<20)
			var blob []byte
			var sum Summary
			for range b.N {
				w := c.NewBuilder()
				b.StopTimer()
				var evs []*event.Event
				add := func() {
					b.StartTimer()
					for _, ev := range evs {
						if err := w.Add(string(ev.Node), ev.Batch, ev); err != nil {
							b.Fatal(err)
						}
					}
					b.StopTimer()
					evs = evs[:0]
				}
				day(b, hosts, raw, func(host string, batch uint64, ev *event.Event) {
					x := store.CloneEvent(ev)
					x.Batch = batch
					if evs = append(evs, x); len(evs) == 10000 {
						add()
					}
				})
				add()
				b.Logf("memory of %d MB raw: %d MB estimated, full %v", raw>>20, w.memory()>>20, w.Full())
				evs = nil
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				b.Logf("heap %d MB", m.HeapAlloc>>20)
				b.StartTimer()
				var err error
				if blob, sum, err = w.Finish(); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			g, err := c.Open(blob)
			if err != nil {
				b.Fatal(err)
			}
			pct := func(n uint64) float64 { return 100 * float64(n) / float64(sum.RawBytes) }
			b.SetBytes(int64(sum.RawBytes))
			b.ReportMetric(pct(sum.Bytes), "%all")
			b.ReportMetric(pct(sum.IndexBytes), "%index")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(sum.Records), "ns/record")
			if testing.Verbose() {
				for _, s := range g.sections {
					name := sectionName(s)
					if s.kind == secDict {
						name = query.Field(s.arg).String()
					}
					fmt.Printf("%-20s %8d bytes %6.3f%%\n", name, s.len, pct(s.len))
				}
			}
		})
	}
}
