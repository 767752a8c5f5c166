package group

import (
	"math/rand/v2"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// received fills a table with real records that came from 20 hosts, each at an
// address of its own, when at says.
func received(t testing.TB, at func(ms int64, n int) int64) *store.Table {
	g := storetest.NewGenerator(5, storetest.Templates(t), 20, storetest.Start)
	tab := store.NewTable()
	senders := map[string]*event.Sender{}
	for n := range need.Size(20_000, 6_000) {
		host, raws := g.Event()
		ev := &event.Event{Records: make([]record.Record, len(raws))}
		for i, raw := range raws {
			store.ParseRecord(&ev.Records[i], raw, []byte(host))
		}
		ev.Node, ev.Ms, ev.Serial = ev.Records[0].Node, ev.Records[0].Ms(), ev.Records[0].Serial
		if senders[host] == nil {
			senders[host] = &event.Sender{Addr: event.SenderAddr(storetest.Addr(len(senders))), Transport: event.TransportTCP}
		}
		ev.From = senders[host]
		when := at(ev.Ms, n)
		for i := range ev.Records {
			if n%20 == 0 && i == 2 {
				when += 3 // in two batches
			}
			ev.Records[i].Received = when
		}
		tab.Add(host, ev)
	}
	return tab
}

// Who sent each event and when costs little of the disk: what comes in a stream, a
// few milliseconds after it happened, and what comes after an outage, in batches.
func TestOriginsAreSmall(t *testing.T) {
	c := codec(t)
	rng := rand.New(rand.NewPCG(1, 1))
	for name, at := range map[string]func(ms int64, n int) int64{
		"stream": func(ms int64, _ int) int64 { return ms + 1 + rng.Int64N(4) },
		"outage": func(_ int64, n int) int64 { return storetest.Start.UnixMilli() + 3600e3 + int64(n/500)*7 },
	} {
		blob, sum, err := c.Encode(received(t, at))
		if err != nil {
			t.Fatal(err)
		}
		g, err := c.Open(blob)
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, kind := range []byte{secSenders, secReceipt} {
			b, err := g.section(kind, 0)
			if err != nil {
				t.Fatal(err)
			}
			size += len(b) + sectionSize
		}
		share := 100 * float64(size) / float64(sum.RawBytes)
		t.Logf("%s: %d bytes for %d events of %d bytes: %.3f %%, of all %.2f %%", name, size, sum.Events, sum.RawBytes, share, 100*float64(sum.Bytes)/float64(sum.RawBytes))
		if share > 0.3 {
			t.Errorf("%s: %.3f %% of the text, 0.3 %% is the most", name, share)
		}
		if found := c.Verify(blob).Findings; len(found) > 0 {
			t.Errorf("%s: verify: %v", name, found)
		}
	}
}
