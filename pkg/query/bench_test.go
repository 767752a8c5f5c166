package query

import (
	"testing"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
)

func benchEvents(b *testing.B) (events []*event.Event, size int64) {
	events = eventtest.Read(b, testLogs+"kernel-node.log")
	for _, ev := range events {
		size += int64(ev.Size())
	}
	return events, size
}

// BenchmarkExtract is what it takes to read all fields of an event that are searched for.
func BenchmarkExtract(b *testing.B) {
	events, size := benchEvents(b)
	var x Extractor
	n := 0
	b.SetBytes(size / int64(len(events)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		x.Extract(events[i%len(events)], func(Field, []byte) { n++ })
	}
}

func BenchmarkMatch(b *testing.B) {
	events, size := benchEvents(b)
	term := func(f Field, op Op, text string) *Query {
		return &Query{Terms: []Term{{Fields: []Field{f}, Op: op, Text: text}}}
	}
	for _, c := range []struct {
		name string
		q    *Query
	}{
		{"key", term(FieldKey, OpContains, "nowhere")}, {"pid", term(FieldPID, OpEqual, "1")}, {"file", term(FieldFile, OpContains, "/etc/shadow")},
		{"uid", term(FieldUID, OpEqual, "4711")}, {"type", &Query{Types: []uint32{1112}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			m := NewMatcher(c.q)
			b.SetBytes(size / int64(len(events)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				m.Match(events[i%len(events)])
			}
		})
	}
}

// BenchmarkIndex is what the store pays to index an event.
func BenchmarkIndex(b *testing.B) {
	events, size := benchEvents(b)
	var x Extractor
	n := 0
	b.SetBytes(size / int64(len(events)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		x.Index(events[i%len(events)], func(Field, []byte) { n++ })
	}
}
