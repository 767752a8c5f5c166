// Package eventtest makes events for tests. Only tests import it.
package eventtest

import (
	"bytes"
	"os"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// Read returns the events of a log.
func Read(t testing.TB, path string) []*event.Event {
	t.Helper()
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(log)
}

// Parse returns the events of a log, each at the place of its first record: all
// records of one node, time and serial are one event. Lines without a time are left
// out.
func Parse(log []byte) (events []*event.Event) {
	type key struct {
		node    string
		hasNode bool
		ms      int64
		serial  uint64
	}
	at := map[key]*event.Event{}
	for line := range bytes.SplitSeq(log, []byte{'\n'}) {
		var r record.Record
		if err := r.Parse(line); err != nil && r.Sec == 0 {
			continue
		}
		k := key{string(r.Node), r.Node != nil, r.Ms(), r.Serial}
		ev := at[k]
		if ev == nil {
			ev = &event.Event{Node: r.Node, Ms: r.Ms(), Serial: r.Serial}
			at[k] = ev
			events = append(events, ev)
		}
		ev.Records = append(ev.Records, r)
	}
	return events
}
