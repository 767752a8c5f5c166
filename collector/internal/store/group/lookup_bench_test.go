package group

import (
	"slices"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// BenchmarkLookup asks a large group for little: what a search does there, each time from its bytes on.
func BenchmarkLookup(b *testing.B) {
	c := codec(b)
	w := c.NewBuilder()
	day(b, 50, need.Size(256<<20, 64<<20), func(host string, batch uint64, ev *event.Event) {
		if err := w.Add(host, batch, ev); err != nil {
			b.Fatal(err)
		}
	})
	last := storetest.Parse("zz", "node=zz type=SYSCALL msg=audit(1795334400.000:1): arch=c000003e syscall=2 success=yes exit=3 pid=77 comm=\"rare\" exe=\"/opt/rare\" key=\"rare\"")
	if err := w.Add("zz", 1, last); err != nil {
		b.Fatal(err)
	}
	blob, sum, err := w.Finish()
	if err != nil {
		b.Fatal(err)
	}
	mid := sum.MinMs + (sum.MaxMs-sum.MinMs)/2
	eq := func(f query.Field, v string) query.Query {
		return query.Query{Terms: []query.Term{term(query.OpEqual, v, f)}}
	}
	for name, q := range map[string]query.Query{
		"rare exe":        eq(query.FieldExe, "/opt/rare"),
		"rare key":        eq(query.FieldKey, "rare"),
		"rare pid":        eq(query.FieldPID, "5000"),
		"absent exe":      eq(query.FieldExe, "/no/such"),
		"absent file":     eq(query.FieldFile, "/no/such"),
		"part of a file":  {Terms: []query.Term{term(query.OpContains, "/no/such", query.FieldFile)}},
		"a second":        {Nodes: []string{"web0023.example.net"}, StartMs: mid, EndMs: mid + 1000},
		"a second, whose": {Nodes: []string{"web0023.example.net"}, StartMs: mid, EndMs: mid + 1000, Origin: true},
		"a type":          {Types: []uint32{1300}},
	} {
		conds := store.ConditionsOf(&q)
		b.Run(name, func(b *testing.B) {
			found, blocks := 0, 0
			for b.Loop() {
				found, blocks = 0, 0
				m := query.NewMatcher(&q)
				g, err := c.Open(blob)
				if err != nil {
					b.Fatal(err)
				}
				cands, err := g.Plan(&q, conds)
				if err != nil {
					b.Fatal(err)
				}
				batches, err := g.BatchesFor(cands)
				if err != nil {
					b.Fatal(err)
				}
				var origins *Origins
				if q.Origin {
					if origins, err = g.OriginsFor(cands); err != nil {
						b.Fatal(err)
					}
				}
				var frame []byte
				var ev event.Event
				for i, cand := range cands {
					if blocks++; i == 0 || cands[i-1].Block.Frame != cand.Block.Frame {
						if frame, err = g.Text(frame, cand.Block.Frame); err != nil {
							b.Fatal(err)
						}
					}
					rest, err := cand.Block.Cut(frame)
					if err != nil {
						b.Fatal(err)
					}
					of, in := batches.Block(cand.Index, &cand.Block, 0), origins.Block(cand.Index, &cand.Block)
					for k := range cand.Block.Events {
						var text []byte
						if text, rest, err = store.CutText(rest, cand.Block.Counted); err != nil {
							b.Fatal(err)
						}
						batch, origin := of.Next(), in.Next()
						if cand.Want != nil {
							if _, ok := slices.BinarySearch(cand.Want, k); !ok {
								continue
							}
						}
						if !m.MayMatch(text) {
							continue
						}
						store.ParseInto(&ev, text, cand.Block.Counted, []byte(cand.Block.Host), origin)
						if ev.Batch = batch; m.Match(&ev) {
							found++
						}
					}
				}
			}
			b.ReportMetric(float64(found), "found")
			b.ReportMetric(float64(blocks), "blocks")
		})
	}
}
