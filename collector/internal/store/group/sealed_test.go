package group

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// The root that is computed while a group is made is that of the group as it is read again, with
// events of every form, and receipts that lie apart.
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
	blob, sum, err := c.Encode(tab)
	if err != nil {
		t.Fatal(err)
	}
	gr, err := c.Open(blob)
	if err != nil {
		t.Fatal(err)
	}
	root, ok := gr.EventsRoot()
	if !ok {
		t.Error("the group has no root")
	}
	for _, f := range c.Verify(blob).Findings { // the claims of its odd events are another matter
		if strings.Contains(f.Err.Error(), "root") {
			t.Errorf("verified: %v", f.Err)
		}
	}
	tree, err := gr.EventTree(nil)
	if err != nil || tree.Len() != int64(sum.Events) || tree.Root() != root {
		t.Errorf("%d of %d events, root %x, want %x: %v", tree.Len(), sum.Events, tree.Root(), root, err)
	}
}

// A root that is not that of the events is found, although its checksum is right.
func TestRootVerified(t *testing.T) {
	t.Parallel()
	c := codec(t)
	blob, _, err := c.Encode(bigTable(t, 2, 1<<18))
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.Open(blob)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range g.sections {
		if s.kind != secEvents {
			continue
		}
		blob[s.off] ^= 1
		entry := blob[headSize+i*sectionSize:]
		binary.LittleEndian.PutUint32(entry[4:], crc32.Checksum(blob[s.off:s.off+s.len], castagnoli))
		binary.LittleEndian.PutUint32(blob[12:], crc32.Update(crc32.Checksum(blob[:12], castagnoli), castagnoli, blob[headSize:headSize+len(g.sections)*sectionSize]))
	}
	if v := c.Verify(blob); len(v.Findings) != 1 || !strings.Contains(v.Findings[0].Err.Error(), "the root of the tree") {
		t.Errorf("%+v", v.Findings)
	}
}

// BenchmarkRoot is the tree alone, as Encode makes it beside the rest.
func BenchmarkRoot(b *testing.B) {
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
