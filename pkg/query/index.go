package query

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// Fields that only an index has. Summaries of reports count values without reading the
// events, and the fields that events are searched by do not suffice for that: an index
// says how many events have a value, not how often one event has it. These fields say
// the rest. Their numbers leave room for more fields to search by; neither kind is ever
// renumbered.
const (
	FieldShape     Field = indexOnly + iota // one value an event, see Shape
	FieldCWD                                // a value of FieldFile that the event has only as its working directory
	FieldFileAgain                          // a value of FieldFile that the event has twice, not counting the working directory
	FieldKeyAgain                           // a value of FieldKey that the event has twice
	FieldOdd                                // "1": the fields do not say all; the event has to be looked at
	FieldClaim                              // the name of another host that a record of the event claims, see event.Event.Claim

	// Fields that no index has. A tally knows the values from where events lie (Places).
	FieldNode    // the host
	FieldMinute  // minutes since 1970, decimal
	FieldHour    // hours since 1970, decimal
	FieldUnnamed // without values: a tally of it gives every event in which a host names a user or group to rest, see Apart

	FieldLists // in an index: one value an event, which of the fields that may have several values it has, see HasList

	// FieldEach is in no index. A tally with it counts, in place of the values of the other fields, each of their combinations: see
	// combining.
	FieldEach

	FieldCall  // in an index: one value an event with a system call, which of them and what its host calls it, see Call
	FieldLogin // in an index: one value an event with a login uid, with what its host calls the user, see Login

	indexOnly = 64
	// otherFields is where the fields begin that have the other values, see Field.Other.
	otherFields = 80

	// NumIndexed is one more than the largest Field in an index.
	NumIndexed = otherFields + NumFields
)

// Other returns the index's field of the values that records of an event have in a field
// called as f is, and that f does not have.
func (f Field) Other() Field { return otherFields + f }

// IsOther reports whether f is one that Other returns.
func (f Field) IsOther() bool { return f >= otherFields && int(f) < NumIndexed }

// Index calls add as Extract does, and then with the values of the fields that only an
// index has.
func (x *Extractor) Index(ev *event.Event, add func(f Field, value []byte)) {
	var is bool
	it := &x.it
	it.all = true
	x.Extract(ev, add)
	it.all = false
	x.addOthers(add)
	if it.hasCWD && !contains(it.files, it.cwd) {
		add(FieldCWD, it.cwd)
	}
	x.again(it.files, FieldFileAgain, add)
	x.again(it.keys, FieldKeyAgain, add)
	x.scratch = x.appendShape(x.scratch[:0], ev)
	add(FieldShape, x.scratch)
	x.scratch = strconv.AppendUint(x.scratch[:0], it.lists(), 10)
	add(FieldLists, x.scratch)
	if x.scratch, is = x.appendCall(x.scratch[:0], ev); is {
		add(FieldCall, x.scratch)
	}
	if x.scratch, is = x.appendLogin(x.scratch[:0], ev); is {
		add(FieldLogin, x.scratch)
	}
	if claim := ev.Claim(); claim != nil {
		add(FieldClaim, claim)
	}
	if it.odd {
		add(FieldOdd, []byte("1"))
	}
}

// again adds the values that are there twice. What is there more often is odd, and
// so are so many values that looking would take long.
func (x *Extractor) again(list [][]byte, f Field, add func(Field, []byte)) {
	const most = 12
	if len(list) > most {
		x.it.odd = true
		return
	}
	for i := 1; i < len(list); i++ {
		n := 0
		for _, before := range list[:i] {
			if bytes.Equal(before, list[i]) {
				n++
			}
		}
		if n == 1 {
			add(f, list[i])
		}
		x.it.odd = x.it.odd || n > 1
	}
}

func contains(list [][]byte, v []byte) bool {
	for _, have := range list {
		if bytes.Equal(have, v) {
			return true
		}
	}
	return false
}

func (x *Extractor) cwd(f record.Field) {
	x.it.cwd, x.it.hasCWD = x.cut(x.bytes(f)), true
}

// Shape holds what a summary by record type needs to know of an event. FieldShape stores
// it.
type Shape struct {
	Types   []uint16 // the types of its records, each once, in the order of the records
	Known   bool     // the event has a result
	Success bool     // the result is a success; valid if Known
	Call    bool     // the event has a system call
}

const (
	shapeKnown = 1 << iota
	shapeSuccess
	shapeCall

	shapeTypes = 32 // an event with more is odd
)

// appendShape appends the value of FieldShape: a byte of flags, then the types,
// two bytes each, the greater one first.
func (x *Extractor) appendShape(dst []byte, ev *event.Event) []byte {
	it := &x.it
	flags := byte(0)
	if it.set.Has(FieldSuccess) {
		flags |= shapeKnown
		if it.nums[FieldSuccess] != 0 {
			flags |= shapeSuccess
		}
	}
	if it.set.Has(FieldSyscall) && int32(it.nums[FieldSyscall]) >= 0 {
		flags |= shapeCall
	}
	dst = append(dst, flags)
next:
	for i := range ev.Records {
		t := ev.Records[i].Type
		for at := 1; at < len(dst); at += 2 {
			if binary.BigEndian.Uint16(dst[at:]) == t {
				continue next
			}
		}
		if len(dst) > 2*shapeTypes {
			it.odd = true
			break
		}
		dst = binary.BigEndian.AppendUint16(dst, t)
	}
	return dst
}

// ParseShape parses a value of FieldShape; ok is false when v is not one.
func ParseShape(v []byte) (s Shape, ok bool) {
	if len(v)%2 == 0 {
		return s, false
	}
	s.Known, s.Success, s.Call = v[0]&shapeKnown != 0, v[0]&shapeSuccess != 0, v[0]&shapeCall != 0
	for at := 1; at < len(v); at += 2 {
		s.Types = append(s.Types, binary.BigEndian.Uint16(v[at:]))
	}
	return s, true
}

// listFields are the fields of which an event may have several values, in the order of their bits
// in a value of FieldLists, from 1 on.
var listFields = [...]Field{FieldKey, FieldFile, FieldSubject, FieldObject}

// lists returns the event's value of FieldLists.
func (it *items) lists() (bits uint64) {
	for i, f := range listFields {
		if len(it.list(f)) > 0 || f == FieldFile && it.hasCWD {
			bits |= 1 << i
		}
	}
	return bits
}

// IsList reports whether an event may have several values of f.
func (f Field) IsList() bool { return slices.Contains(listFields[:], f) }

// HasList reports whether an event with the value v of FieldLists has a value of f, which IsList. It does
// for a value that is none.
func HasList(v string, f Field) bool {
	bits, err := strconv.ParseUint(v, 10, 8)
	return err != nil || bits&(1<<slices.Index(listFields[:], f)) != 0
}

// indexNames are those of the fields that only an index has.
var indexNames = [...]string{"shape", "cwd", "file-again", "key-again", "odd", "claim", "node", "minute", "hour", "unnamed", "lists", "each", "call", "login"}

func indexName(f Field) string {
	if f.IsOther() {
		return "other-" + (f - otherFields).String()
	}
	if i := int(f) - indexOnly; i >= 0 && i < len(indexNames) {
		return indexNames[i]
	}
	return "field-" + strconv.Itoa(int(f))
}
