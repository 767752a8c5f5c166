package group

import (
	"fmt"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/varint"
)

// add says that the event being extracted has a value; an event that has it twice counts
// once.
func (v *verifier) add(f query.Field, value []byte) {
	if int(f) >= len(v.ids) {
		return
	}
	p := v.ids[f][string(value)]
	if p == nil {
		p = &builtValue{}
		v.ids[f][string(value)] = p
	}
	p.add(v.ord)
}

// dictionaries compares each field's dictionary with what the events say. Of a
// group with unreadable blocks, only what concerns the others is compared; of one whose
// writer read less or otherwise (readVersion), no more than that its dictionaries can be read.
func (v *verifier) dictionaries() {
	fields := v.ids[:]
	if !v.g.tallies() { // an older program wrote it, without the fields that only an index has
		fields = fields[:query.NumFields]
	}
	for f := range fields {
		b, err := v.g.section(secDict, byte(f))
		if err != nil {
			continue // sections has said so
		}
		off := v.offset(secDict, byte(f))
		if b == nil {
			if len(v.ids[f]) > 0 && !addedField(query.Field(f)) && v.g.version >= readVersion {
				v.wrong(off, "no dictionary of field %s, but %d values in its events", query.Field(f), len(v.ids[f]))
			}
			continue
		}
		if err := v.dictionary(query.Field(f)); err != nil {
			v.found(Finding{Offset: off, Block: -1, Err: fmt.Errorf("%w: dictionary of field %s: %w", store.ErrDamaged, query.Field(f), err)})
		}
	}
}

// dictionary compares a field's dictionary with the events: its order, its values, each
// one's postings. A value of no readable event is wrong only when all blocks are readable.
func (v *verifier) dictionary(f query.Field) error {
	d, err := v.g.dict(f)
	if err != nil {
		return err
	}
	known := v.g.spans(f, len(d.refs))
	if b, _ := v.g.section(secSpans, byte(f)); b != nil && known == nil {
		return damaged("its short texts, in a section of %d bytes for %d chunks", len(b), len(d.refs))
	}
	found, n := 0, 0
	last := ""
	err = d.each(func(x *dict, i int) error {
		if known != nil {
			shared := 0
			if i > 0 {
				shared = sharedWith(x.value(i), []byte(last))
			}
			if !known.covers(d.at, x.value(i), shared) {
				return damaged("its short texts hide %.80q", x.value(i))
			}
		}
		if n++; n > 1 && last >= string(x.value(i)) {
			return damaged("value %d, %.80q, is out of order", n-1, x.value(i))
		}
		last = string(x.value(i))
		p, err := x.postings(i)
		if err != nil {
			return err
		}
		want := v.ids[f][last]
		same, err := v.posting(p, want)
		switch {
		case err != nil:
			return fmt.Errorf("value %.80q: %w", last, err)
		case v.g.version < readVersion:
			return nil
		case want != nil:
			found++
		case v.allReadable:
			return damaged("value %.80q is in no event", last)
		}
		if !same {
			return damaged("value %.80q: its postings are not the events that have it", last)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if found != len(v.ids[f]) && v.g.version >= readVersion {
		return damaged("%d values, the events have %d", found, len(v.ids[f]))
	}
	return nil
}

// posting decodes a value's postings and compares them, in readable blocks, with the
// events that have the value; nil where none has.
func (v *verifier) posting(p []byte, want *builtValue) (same bool, err error) {
	var ords []uint32
	if want != nil {
		v.ords = want.ordinals(v.ords[:0])
		ords = v.ords
	}
	// ords are the events of readable blocks, so of the postings only those are compared:
	// one after the other by ordinals, or by their number in each block.
	r := varint.NewReader(p)
	head := r.Uvarint()
	same = true
	if head&1 == postEvents {
		ord := uint64(0)
		for n := head >> 1; n > 0 && !r.Bad(); n-- {
			if ord += r.Uvarint(); ord >= v.g.Summary.Events {
				return false, damaged("event %d of %d", ord, v.g.Summary.Events)
			}
			if !v.readable[v.blockOf[ord]] {
				continue
			}
			if len(ords) == 0 || uint64(ords[0]) != ord {
				same = false
			} else {
				ords = ords[1:]
			}
		}
	} else {
		total, at := uint64(0), uint64(0)
		for n := r.Uvarint(); n > 0 && !r.Bad(); n-- {
			at += r.Uvarint()
			count := r.Uvarint()
			total += count
			if at >= uint64(v.g.numBlocks()) {
				return false, damaged("block %d of %d", at, v.g.numBlocks())
			}
			if !v.readable[at] {
				continue
			}
			k, _ := slices.BinarySearchFunc(ords, uint32(at)+1, func(o, b uint32) int { return int(v.blockOf[o]) - int(b) })
			if uint64(k) != count || k > 0 && v.blockOf[ords[0]] != uint32(at) {
				same = false
			}
			ords = ords[k:]
		}
		if total != head>>1 {
			return false, damaged("%d events by blocks, %d were said", total, head>>1)
		}
	}
	if !r.Done() {
		return false, damaged("postings that do not end where they should")
	}
	return same && (want == nil || len(ords) == 0), nil
}
