package event

import "github.com/auditfleet/auditfleet/pkg/record"

// Pool keeps unused events so that Assemblers can use them again. Only one goroutine may
// use it, which must also be that of all Assemblers that share it. A Pool reuses only the
// Event, its Records and its tags, not the bytes to which the records point.
type Pool struct {
	free []*Event
}

// poolEvents is the largest number of events that a Pool keeps, about 100 KiB. Except for
// late events, few are in use at one time.
const poolEvents = 64

// Put returns an event that came from an Assembler to the Pool. Nobody may use the event
// afterwards.
func (p *Pool) Put(ev *Event) {
	if len(p.free) >= poolEvents || cap(ev.Records) < slabRecords || cap(ev.Records) > 4*slabRecords {
		return
	}
	clear(ev.Records) // so that the records' bytes are not kept in memory
	*ev = Event{Records: ev.Records[:0], tags: ev.tags[:0]}
	p.free = append(p.free, ev)
}

// get returns an event for a first record; p may be nil.
func (p *Pool) get(r *record.Record) *Event {
	if p == nil || len(p.free) == 0 {
		return newEvent(r)
	}
	n := len(p.free) - 1
	ev := p.free[n]
	p.free[n], p.free = nil, p.free[:n]
	ev.Node, ev.Ms, ev.Serial = r.Node, r.Ms(), r.Serial
	return ev
}

// single returns the event of one record that no other belongs to; p may be nil.
func (p *Pool) single(r *record.Record, tag uint64) *Event {
	if p == nil || len(p.free) == 0 {
		return newSingle(r, tag)
	}
	ev := p.get(r)
	ev.Records, ev.tags = append(ev.Records, *r), append(ev.tags, tag)
	return ev
}
