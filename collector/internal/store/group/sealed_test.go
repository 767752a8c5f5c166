package group

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// The root that is made of texts alone is that of the events as they are read, of every form, with receipts
// that lie apart and such as are counted from an event's time.
func TestSealedRoot(t *testing.T) {
	t.Parallel()
	c := codec(t)
	tab := bigTable(t, 7, 1<<20)
	g := storetest.NewGenerator(3, storetest.Templates(t), 3, storetest.Start)
	from := &event.Sender{Host: "web1", Addr: netip.MustParseAddr("2001:db8::1"), Transport: event.TransportGRPC}
	for i := range 500 {
		host, records := g.Event()
		if i%7 == 0 {
			records = append(records, []byte("a line\nin two"), nil)
		}
		if i%5 == 0 {
			host = ""
		}
		ev := &event.Event{}
		if i%3 == 0 {
			ev.From = from
		}
		for k, raw := range records {
			ev.Records = append(ev.Records, record.Record{})
			store.ParseRecord(&ev.Records[k], raw, []byte(host))
			ev.Records[k].Received = int64(i + i%4*k)
		}
		ev.Ms, ev.Serial = ev.Records[0].Ms(), ev.Records[0].Serial
		tab.Add(host, ev)
	}
	blob, sum, made, err := c.EncodeWithRoot(tab)
	if err != nil {
		t.Fatal(err)
	}
	gr, err := c.Open(blob)
	if err != nil {
		t.Fatal(err)
	}
	root, err := gr.EventsRoot()
	if err != nil {
		t.Fatal(err)
	}
	if made != root {
		t.Errorf("root %x of what is encoded, want %x", made, root)
	}
	tree, err := gr.EventTree(nil)
	if err != nil || tree.Len() != int64(sum.Events) || tree.Root() != root {
		t.Errorf("%d of %d events, root %x, want %x: %v", tree.Len(), sum.Events, root, tree.Root(), err)
	}
	// Damage is said, wherever it is in what the root is of.
	for _, s := range gr.sections {
		if s.kind == secDict {
			continue
		}
		bad := slices.Clone(blob)
		bad[s.off+s.len/2] ^= 1
		g, err := c.Open(bad)
		if err == nil {
			_, err = g.EventsRoot()
		}
		if !errors.Is(err, store.ErrDamaged) {
			t.Errorf("a flipped bit in its %s: %v", sectionName(s), err)
		}
	}
}

// BenchmarkEncodeRoot is the root alone, of a group that is encoded.
func BenchmarkEncodeRoot(b *testing.B) {
	tab := bigTable(b, 50, 16<<20)
	var x builder
	for _, h := range tab.Hosts() {
		x.addHost(&h)
	}
	for b.Loop() {
		x.root()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(tab.Stats().Records), "ns/record")
}

// BenchmarkRoot is the root alone, of a group as it lies in a store.
func BenchmarkRoot(b *testing.B) {
	c, err := NewCodec(1)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	tab := bigTable(b, 50, 16<<20)
	blob, sum, err := c.Encode(tab)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		g, err := c.Open(blob)
		if err == nil {
			_, err = g.EventsRoot()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(sum.Records), "ns/record")
}
