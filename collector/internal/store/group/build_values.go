package group

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// vocabulary has, for each field, the values of a Builder's events, and of each value the events that have it.
type vocabulary struct {
	x      query.Extractor
	ids    [query.NumIndexed]map[string]uint32 // by field and text: the value's number
	last   [query.NumIndexed]lastValue         // most events have many values of the one before
	all    []builtValue
	ord    uint32 // of the present event
	fn     func(query.Field, []byte)
	memory int // about how many bytes all of it takes
}

// builtValue is a value and its events.
type builtValue struct {
	text  string
	count uint32
	last  uint32 // the last event that has it
	gaps  []byte // as postings of events have them
}

type lastValue struct {
	id  uint32
	set bool
}

const valueCost = 48 + 64 // a builtValue, and its place in the map

func (v *vocabulary) init() {
	for f := range v.ids {
		v.ids[f] = map[string]uint32{}
	}
	v.fn = v.addValue
}

// add adds the values of the event with this ordinal.
func (v *vocabulary) add(ord uint32, ev *event.Event) {
	v.ord = ord
	v.x.Index(ev, v.fn)
}

func (v *vocabulary) addValue(f query.Field, text []byte) {
	if int(f) >= len(v.ids) {
		return
	}
	l := &v.last[f]
	if !l.set || v.all[l.id].text != string(text) {
		id, ok := v.ids[f][string(text)]
		if !ok {
			id = uint32(len(v.all))
			own := string(text)
			v.ids[f][own] = id
			v.all = append(v.all, builtValue{text: own})
			v.memory += valueCost + len(text)
		}
		*l = lastValue{id, true}
	}
	x := &v.all[l.id]
	had := cap(x.gaps)
	x.add(v.ord)
	v.memory += cap(x.gaps) - had
}

// add adds an event, which is not before the last one.
func (x *builtValue) add(ord uint32) {
	if x.count > 0 && x.last == ord { // it is there already
		return
	}
	x.gaps = binary.AppendUvarint(x.gaps, uint64(ord-x.last))
	x.count++
	x.last = ord
}

// encode writes the dictionaries, by field, and the section of their chunks.
func (v *vocabulary) encode(c *Codec, events int, blocks []Block) (out []dictionary, chunks []byte) {
	w := chunker{c: c}
	var ords []uint32
	for f, ids := range v.ids {
		if len(ids) == 0 && !addedField(query.Field(f)) {
			continue // a missing dictionary says that no event has the field
		}
		sorted := make([]*builtValue, 0, len(ids))
		for _, id := range ids {
			sorted = append(sorted, &v.all[id])
		}
		slices.SortFunc(sorted, func(a, b *builtValue) int { return strings.Compare(a.text, b.text) })
		w.begin(hasTexts(query.Field(f)))
		for _, x := range sorted {
			head, body := uint64(x.count)<<1|postEvents, x.gaps
			if x.count >= 64 && int(x.count)*commonShare > events {
				ords = x.ordinals(ords[:0])
				head, body = postingsOf(ords, events, blocks)
			}
			w.add(x.text, head, body)
		}
		body, spans := w.end()
		out = append(out, dictionary{query.Field(f), body, spans})
		v.ids[f] = nil
	}
	return out, w.all
}

// ordinals appends the events that have the value.
func (x *builtValue) ordinals(dst []uint32) []uint32 {
	at := uint32(0)
	for b := x.gaps; len(b) > 0; {
		gap, k := binary.Uvarint(b)
		at, b = at+uint32(gap), b[k:]
		dst = append(dst, at)
	}
	return dst
}
