package search

import (
	"bytes"
	"io"
	"os"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
)

func benchEvents(b *testing.B) (events []*event.Event, size int64) {
	events = eventsOf(b, "testdata/kernel-node.log")
	for _, ev := range events {
		size += int64(ev.Size())
	}
	return events, size
}

// BenchmarkExtract is what the store pays to index an event.
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
	for _, c := range []struct{ name, words string }{
		{"key", "-k\x00nowhere"}, {"pid", "-p\x001"}, {"file", "-f\x00/etc/shadow"}, {"uid", "-ui\x004711"}, {"type", "-m\x00USER_LOGIN"},
	} {
		b.Run(c.name, func(b *testing.B) {
			o, err := ParseArgs(splitWords(c.words), utcEnv)
			if err != nil {
				b.Fatal(err)
			}
			m := NewMatcher(&o.Query)
			b.SetBytes(size / int64(len(events)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				m.Match(events[i%len(events)])
			}
		})
	}
}

// BenchmarkFile is a search of a log file from end to end.
func BenchmarkFile(b *testing.B) {
	one, err := os.ReadFile("testdata/kernel-node.log")
	if err != nil {
		b.Fatal(err)
	}
	log := bytes.Repeat(one, 100)
	for _, c := range []struct{ name, words string }{{"key", "-r\x00-k\x00nowhere"}, {"all", "-r"}} {
		b.Run(c.name, func(b *testing.B) {
			o, err := ParseArgs(splitWords(c.words), utcEnv)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(log)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Run(b.Context(), o, time.UTC, Read(ReadConfig{}, bytes.NewReader(log)), io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func splitWords(s string) []string {
	var words []string
	for w := range bytes.SplitSeq([]byte(s), []byte{0}) {
		words = append(words, string(w))
	}
	return words
}
