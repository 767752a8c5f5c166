package search

import (
	"fmt"
	"maps"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// oldPlaces holds the content of a store's checkpoint in the format of earlier versions:
// for each host, a position in the order of its times; and for events of the far future,
// their time of receipt.
type oldPlaces struct {
	only     bool            // the file is of an old version
	place    map[string]mark // by host
	received int64           // of events of the far future, those received up to then (ms since 1970) were printed
}

// line reads the value of an old line.
func (p *oldPlaces) line(name, v string) (ok bool) {
	if name == "received" {
		var at uint64
		at, ok = number(v)
		p.received = int64(at)
		return ok && at > 0
	}
	m, ok := parseMark(v)
	if p.place == nil {
		p.place = map[string]mark{}
	}
	p.place[m.node] = m
	return ok
}

func (p *oldPlaces) appendTo(text []byte) []byte {
	if p.received > 0 {
		text = fmt.Appendf(text, "received=%d\n", p.received)
	}
	for _, node := range slices.Sorted(maps.Keys(p.place)) {
		m := p.place[node]
		text = m.appendTo(text)
	}
	return text
}

// receipt is when the last of an event's records was received, in ms since 1970; 0
// where that is not known.
func receipt(ev *event.Event) (at int64) {
	for i := range ev.Records {
		at = max(at, ev.Records[i].Received)
	}
	return at
}

// isFarFuture says whether an event's time says nothing about when it was.
func isFarFuture(ev *event.Event) bool {
	at := receipt(ev)
	return at > 0 && event.IsFarFuture(ev.Ms, at)
}

// printed says whether an event is one that the old version printed, or had passed
// when it came.
func (p *oldPlaces) printed(ev *event.Event) bool {
	if isFarFuture(ev) {
		return receipt(ev) <= p.received
	}
	m, ok := p.place[string(ev.Node)]
	if !ok {
		return false
	}
	at := m.sec*1000 + m.milli
	return ev.Ms < at || ev.Ms == at && ev.Serial <= m.serial
}

// youngest is the least time of a place, in ms since 1970; 0 without one.
func (p *oldPlaces) youngest() (ms int64) {
	for _, m := range p.place {
		if at := m.sec*1000 + m.milli; ms == 0 || at < ms {
			ms = at
		}
	}
	return ms
}
