package group

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
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
		x.tree(nil).Root()
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

// A batch that is divided by classes has the root over its events in the order of their places, whoever makes it, each of them is found at its place, and the proof of each class completes
// that root.
func TestEncodeDivided(t *testing.T) {
	t.Parallel()
	c, err := NewCodec(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	tab := store.NewTable()
	storetest.Fill(tab, storetest.NewGenerator(7, storetest.Templates(t), 5, storetest.Start), 300)
	tab.Add("", storetest.Parse("", "node=odd type=KERNEL msg=audit(1.000:1): text"))
	classes := store.Classes{{Hosts: "*1*"}, {Hosts: "odd"}, {Key: "*"}}
	blob, sum, root, err := c.EncodeDivided(tab, tab.Divide(classes), true)
	if err != nil {
		t.Fatal(err)
	}
	if v := c.Verify(blob); len(v.Findings) > 0 {
		t.Fatalf("%+v", v.Findings)
	}
	g, err := c.Open(blob)
	if err != nil {
		t.Fatal(err)
	}
	d, err := g.Division()
	if err != nil || len(d.Classes) < 3 {
		t.Fatalf("%+v, %v", d, err)
	}
	next := int64(0)
	tree, err := g.EventTree(func(place int64, hash, mixed eventtree.Hash) {
		if place != next || (hash != mixed) != (uint64(place) >= d.Classes[1].First && d.Classes[1].Name == "odd" && uint64(place) < d.Classes[1].First+d.Classes[1].Events) {
			t.Errorf("event %d, the next is %d", place, next)
		}
		next++
	})
	again, rerr := g.EventsRoot()
	if err != nil || rerr != nil || tree.Root() != root || again != root || next != int64(sum.Events) {
		t.Fatalf("%d events, %v, %v; the roots: %x %x %x", next, err, rerr, root, again, tree.Root())
	}
	for _, x := range d.Classes {
		leaves := make([]eventtree.Hash, sum.Events)
		for i := x.First; i < x.First+x.Events; i++ {
			leaves[i] = tree.Event(int64(i))
		}
		p := eventtree.NewPartial(leaves)
		if err := p.Around(int64(x.First), int64(x.Events), x.Proof); err != nil {
			t.Fatal(err)
		}
		if is, ok := p.Root(); !ok || is != root {
			t.Errorf("%q alone gives another root", x.Name)
		}
	}
	// Damage of the section is told.
	at := bytes.Index(blob, d.Encode())
	blob[at+3] ^= 1
	if v := c.Verify(blob); len(v.Findings) == 0 {
		t.Error("classes are damaged, and nothing is found")
	}
	if g, err = c.Open(blob); err == nil {
		_, err = g.Division()
	}
	if !errors.Is(err, store.ErrDamaged) {
		t.Errorf("damaged classes: %v", err)
	}
}
