package eventtree

import (
	"crypto/sha256"
	"net/netip"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/event"
)

func BenchmarkEvent(b *testing.B) {
	e := Event{Host: "web1", From: &event.Sender{Host: "web1", Addr: netip.MustParseAddr("192.0.2.7"), Transport: event.TransportGRPC}, Receipts: []int64{1}, Text: make([]byte, 800)}
	var h Hasher
	for b.Loop() {
		h.Event(&e)
	}
}

func BenchmarkFloor(b *testing.B) {
	d := make([]byte, 870)
	for b.Loop() {
		sha256.Sum256(d)
	}
}

func BenchmarkRoot(b *testing.B) {
	t := some(10000)
	for b.Loop() {
		t.Root()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10000, "ns/event")
}
