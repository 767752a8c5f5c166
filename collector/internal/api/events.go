package api

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

const (
	// A response is sent when it has packBytes of records or packEvents events. For a slow
	// client, gRPC's flow control lets the collector hold no more than a few responses.
	packBytes  = 128 << 10
	packEvents = 4096
	// packDelay is how long found events may wait for others to fill a response.
	packDelay = 100 * time.Millisecond
)

// packer packs events into responses and sends these. It is for one goroutine.
type packer struct {
	*call
	out     func(*fleet.Events) error // sends events in a response, which owns them
	origins bool                      // the sender and the receipts of each event are sent as well
	batches bool                      // the batch and the tie of each event are sent as well
	last    time.Time                 // when a response was sent last
	events  *fleet.Events             // that wait to be sent; nil for none
	// senders has the place of each sender in events.Senders, from 1.
	senders map[event.Sender]uint32
}

// newPacker returns a packer for the answer to q.
func newPacker(c *call, q *query.Query, out func(*fleet.Events) error) *packer {
	return &packer{call: c, out: out, origins: q.Origin, batches: q.Batches, last: time.Now()}
}

// add packs an event, of which it copies the records, and sends a response when enough events
// wait or they have waited long enough. ev.Node is kept until then.
func (p *packer) add(ev *event.Event) error {
	if p.events == nil {
		p.events = &fleet.Events{}
	}
	r := p.events
	for i := range ev.Records {
		raw := ev.Records[i].Raw
		r.Raw = append(r.Raw, raw...)
		r.RecordBytes = append(r.RecordBytes, uint32(len(raw)))
	}
	out := &fleet.Event{Records: uint32(len(ev.Records)), Ms: ev.Ms, Serial: ev.Serial, Node: ev.Node}
	p.origin(out, ev)
	if p.batches {
		out.Batch, out.Tie = ev.Batch, ev.Tie
	}
	r.Events = append(r.Events, out)
	if len(r.Raw) < packBytes && len(r.Events) < packEvents && time.Since(p.last) < packDelay {
		return nil
	}
	return p.flush()
}

// origin adds an event's sender and receipts to out, where these are asked for. LaterMs stays
// empty while all records came at once.
func (p *packer) origin(out *fleet.Event, ev *event.Event) {
	if !p.origins {
		return
	}
	if from := ev.From; from != nil {
		if len(p.events.Senders) == 0 {
			p.senders = map[event.Sender]uint32{}
		}
		n := p.senders[*from]
		if n == 0 {
			p.events.Senders = append(p.events.Senders, toSender(from))
			n = uint32(len(p.events.Senders))
			p.senders[*from] = n
		}
		out.Sender = n
	}
	if len(ev.Records) == 0 {
		return
	}
	out.ReceivedMs = ev.Records[0].Received
	for i := 1; i < len(ev.Records); i++ {
		gap := ev.Records[i].Received - ev.Records[i-1].Received
		if gap != 0 && out.LaterMs == nil {
			out.LaterMs = make([]int64, i-1, len(ev.Records)-1)
		}
		if out.LaterMs != nil {
			out.LaterMs = append(out.LaterMs, gap)
		}
	}
}

// flush sends the events that wait.
func (p *packer) flush() error {
	events := p.events
	p.events, p.last = nil, time.Now()
	if events == nil {
		return nil
	}
	return p.send(func() error { return p.out(events) })
}

// errResponse is returned for a response whose counts and lengths contradict each other.
var errResponse = errors.New("the collector's answer does not add up")

// unpack calls fn with each event of a response. The events refer to the response's bytes, and
// are fn's to keep.
func unpack(events *fleet.Events, fn func(*event.Event) error) error {
	raw, sizes := events.GetRaw(), events.GetRecordBytes()
	senders, err := fromSenders(events.GetSenders())
	if err != nil {
		return err
	}
	for _, e := range events.GetEvents() {
		if n := uint64(e.GetRecords()); n == 0 || n > uint64(len(sizes)) { // who reads events relies on a record
			return fmt.Errorf("%w: %d records announced, %d there", errResponse, e.GetRecords(), len(sizes))
		}
		node := e.GetNode()
		if len(node) == 0 {
			node = nil
		}
		ev := &event.Event{Node: node, Ms: e.GetMs(), Serial: e.GetSerial(), Records: make([]record.Record, e.GetRecords()), Batch: e.GetBatch(), Tie: e.GetTie()}
		for i := range ev.Records {
			n := int(sizes[i])
			if n > len(raw) {
				return fmt.Errorf("%w: a record of %d bytes in %d", errResponse, n, len(raw))
			}
			store.ParseRecord(&ev.Records[i], raw[:n:n], node)
			raw = raw[n:]
		}
		sizes = sizes[len(ev.Records):]
		if err := setOrigin(ev, e, senders); err != nil {
			return err
		}
		if err := fn(ev); err != nil {
			return err
		}
	}
	return nil
}

// toSender returns a sender as a message.
func toSender(s *event.Sender) *fleet.Sender {
	out := &fleet.Sender{Host: []byte(s.Host), Transport: uint32(s.Transport)}
	if s.Addr.IsValid() {
		out.Address = s.Addr.String()
	}
	return out
}

// fromSenders is the reverse of toSender, for all senders of a response.
func fromSenders(list []*fleet.Sender) ([]event.Sender, error) {
	out := make([]event.Sender, len(list))
	for i, s := range list {
		out[i] = event.Sender{Host: string(s.GetHost()), Transport: event.Transport(s.GetTransport())}
		if s.GetAddress() == "" {
			continue
		}
		addr, err := netip.ParseAddr(s.GetAddress())
		if err != nil {
			return nil, fmt.Errorf("%w: a sender: %w", errResponse, err)
		}
		out[i].Addr = addr
	}
	return out, nil
}

// setOrigin sets an event's sender and receipts from the message e.
func setOrigin(ev *event.Event, e *fleet.Event, senders []event.Sender) error {
	n := e.GetSender()
	if uint64(n) > uint64(len(senders)) {
		return fmt.Errorf("%w: sender %d of %d", errResponse, n, len(senders))
	}
	if n > 0 {
		ev.From = &senders[n-1]
	}
	at, later := e.GetReceivedMs(), e.GetLaterMs()
	for i := range ev.Records {
		if i > 0 && i <= len(later) {
			at += later[i-1]
		}
		ev.Records[i].Received = at
	}
	return nil
}
