package store

import (
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// Open is an event that is not complete yet, as far as it had come when it was copied.
type Open struct {
	from    *event.Sender
	records []openRecord
}

// openRecord is the bytes of a record, which nobody changes, and when it was received.
type openRecord struct {
	raw      []byte
	received int64
}

// OpenEvents copies open events for a search. The text is not copied, of a record 32 bytes
// are: what open events take in memory is bounded, so this is, too.
type OpenEvents struct {
	refs []Ref
	room []openRecord // of events to come
}

// openRoom is for how many records room is made at once.
const openRoom = 1024

// Add copies an event of a host, "" for that of mixed nodes, if a query may match it. Nothing
// but the bytes of its records is kept of it. Who calls it sees to it that nobody changes the
// event meanwhile.
func (o *OpenEvents) Add(q *query.Query, host string, ev *event.Event, from *event.Sender) {
	if len(ev.Records) == 0 || !InTime(q, ev.Ms) || q.HasSerial && ev.Serial != q.Serial {
		return
	}
	if cap(o.room)-len(o.room) < len(ev.Records) {
		o.room = make([]openRecord, 0, max(openRoom, len(ev.Records)))
	}
	at := len(o.room)
	for i := range ev.Records {
		o.room = append(o.room, openRecord{ev.Records[i].Raw, ev.Records[i].Received})
	}
	node := host
	if node == "" {
		node = string(ev.Node)
	}
	o.refs = append(o.refs, Ref{
		Key: query.Key{Ms: ev.Ms, Node: node, Serial: ev.Serial}, host: host,
		open: &Open{from: from, records: o.room[at:len(o.room):len(o.room)]},
	})
}

// Refs returns what was copied, in no particular order.
func (o *OpenEvents) Refs() []Ref { return o.refs }

// event parses the event, as ParseText does one of a table.
func (o *Open) event(host string) *event.Event {
	node := []byte(host)
	if host == "" {
		node = NodeOf(o.from)
	}
	ev := &event.Event{Records: make([]record.Record, len(o.records)), From: o.from}
	for i := range o.records {
		ParseRecord(&ev.Records[i], o.records[i].raw, node)
		ev.Records[i].Received = o.records[i].received
	}
	first := &ev.Records[0]
	ev.Node, ev.Ms, ev.Serial = first.Node, first.Ms(), first.Serial
	if host != "" {
		ev.Node = node
	}
	return ev
}
