package query

import (
	"slices"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// units are the lengths of time, in milliseconds, of the fields that say when an event was.
var units = [...]struct {
	field Field
	ms    int64
}{{FieldMinute, 60 * 1000}, {FieldHour, 60 * 60 * 1000}}

// UnitMs returns how many milliseconds the unit of a field has that says when an event was.
func UnitMs(f Field) int64 {
	for _, u := range units {
		if u.field == f {
			return u.ms
		}
	}
	return 0
}

// Places calls add with an event's values of the fields that no index has.
func Places(ev *event.Event, add func(f Field, v string)) { places(string(ev.Node), ev.Ms, add) }

func places(host string, ms int64, add func(f Field, v string)) {
	add(FieldNode, host)
	for _, u := range units {
		add(u.field, strconv.FormatInt(ms/u.ms, 10))
	}
}

// Placeable reports whether all events of one host, "" for several, between two times have
// the same value of each field of the tally that Places knows.
func (t *Tally) Placeable(host string, first, last int64) bool {
	if t.asked[FieldNode] && host == "" {
		return false
	}
	for _, u := range units {
		if t.asked[u.field] && (first < 0 || first/u.ms != last/u.ms) {
			return false
		}
	}
	return true
}

// Place counts n events of a host between two times: their number, their times and, for
// they must be Placeable, the values of Places. What they have beside these the caller adds; where the tally Combines, that is
// all but number and times.
func (t *Tally) Place(host string, first, last, n int64) {
	t.Time(first, last)
	t.Events += n
	t.place(host, first, n)
}

func (t *Tally) place(host string, ms, n int64) {
	if t.fields[FieldNode] == nil && t.fields[FieldMinute] == nil && t.fields[FieldHour] == nil {
		return
	}
	places(host, ms, func(f Field, v string) {
		if vs := t.fields[f]; vs != nil {
			vs.AddString(v, n)
		}
	})
}

// Apart returns the fields whose events a tally of the given fields must not count: it
// gives an event with a value of one of them to rest.
func Apart(fields []Field) []Field {
	var apart []Field
	if !slices.Contains(fields, FieldEach) { // groups are of the values that a search reads
		apart = append(apart, FieldOdd)
	}
	if slices.Contains(fields, FieldUnnamed) {
		for f := FieldAUIDName; f <= FieldEGIDName; f++ {
			apart = append(apart, f, f.Other())
		}
	}
	return apart
}
