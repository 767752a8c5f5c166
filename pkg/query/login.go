package query

import (
	"bytes"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// Login is what a report by the names of login users needs to know of an event. FieldLogin stores it.
type Login struct {
	ID    uint32 // UnsetID: nobody had logged in
	Named []byte // what its host calls the user; valid if Told
	Told  bool
}

var tailAUID = []byte("AUID")

// tailField is what the enriched tail that speaks for an event says of a name.
func tailField(ev *event.Event, name []byte) (f record.Field, ok bool) {
	r := TailOf(ev)
	if r == nil {
		return f, false
	}
	for fields := r.EnrichedFields(); ; {
		if f, ok = fields.Next(); !ok || bytes.Equal(f.Name, name) {
			return f, ok
		}
	}
}

// appendLogin appends the value of FieldLogin: the login uid, and where the host names the user a space and that name. False: the event has no login uid.
func (x *Extractor) appendLogin(dst []byte, ev *event.Event) ([]byte, bool) {
	it := &x.it
	if !it.set.Has(FieldAUID) || len(ev.Records) == 0 {
		return dst, false
	}
	dst = strconv.AppendUint(dst, uint64(uint32(it.nums[FieldAUID])), 10)
	if f, ok := tailField(ev, tailAUID); ok {
		dst = f.AppendDecoded(append(dst, ' '))
	}
	return dst, true
}

// ParseLogin parses a value of FieldLogin; ok is false when v is not one. The name is a part of v.
func ParseLogin(v []byte) (l Login, ok bool) {
	id, name, told := bytes.Cut(v, []byte{' '})
	n, err := strconv.ParseUint(string(id), 10, 32)
	return Login{ID: uint32(n), Named: name, Told: told}, err == nil
}
