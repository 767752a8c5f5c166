package last

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/record"
)

// word is a NAME=VALUE of a record; its slices point into the record.
type word struct {
	name, value []byte
}

// words are those of a record, and a place among them. The stock tools read a record
// forward: what stands before a field that was found is not found any more, and once
// a field is missing nothing is, until rewind. Where a record lacks a field or has it
// twice, that decides what is read.
type words struct {
	r    *record.Record
	list []word
	at   int
}

var (
	oldWord   = []byte("old")
	oldPrefix = []byte("old-")
	claim     = []byte("msg='")
)

// load takes a record apart and goes to its start. The record must stay as it is.
func (w *words) load(r *record.Record) {
	w.r, w.list, w.at = r, w.list[:0], 0
	body := r.Body
	old := false // old kernels wrote "old auid=0 new auid=1000"
	for len(body) > 0 {
		one, rest, _ := bytes.Cut(body, []byte{' '})
		body = rest
		one = bytes.TrimPrefix(one, claim)
		name, value, ok := bytes.Cut(one, []byte{'='})
		if !ok {
			if len(one) > 0 {
				old = bytes.Equal(one, oldWord)
			}
			continue
		}
		name, value = bytes.TrimPrefix(name, []byte{'('}), unpunctuated(value)
		if len(value) == 0 {
			continue
		}
		if old {
			name = append(oldPrefix[:len(oldPrefix):len(oldPrefix)], name...)
		}
		old = false
		w.list = append(w.list, word{name, value})
	}
}

// unpunctuated returns a value without the punctuation at its end.
func unpunctuated(value []byte) []byte {
	for _, c := range [...]byte{':', ',', '\''} {
		value = bytes.TrimSuffix(value, []byte{c})
	}
	if string(value) != "(none)" && string(value) != "(null)" {
		value = bytes.TrimSuffix(value, []byte{')'})
	}
	return value
}

func (w *words) rewind() { w.at = 0 }

// find goes to the next field called name, which may be the present one, and returns its
// value; nil, behind everything, where there is none.
func (w *words) find(name string) []byte {
	for ; w.at < len(w.list); w.at++ {
		if string(w.list[w.at].name) == name {
			return w.list[w.at].value
		}
	}
	return nil
}

// skip goes to the field behind the present one, where there is one.
func (w *words) skip() {
	if w.at+1 < len(w.list) {
		w.at++
	}
}

// unset is (uid_t)-1: no login id, no session, no such field.
const unset = ^uint32(0)

// number finds a field and reads it as the stock tools do: the digits at its start, cut to
// 32 bits; 0 where there are none.
func (w *words) number(name string) uint32 {
	v := w.find(name)
	if v == nil {
		return unset
	}
	end := 0
	for end < len(v) && (v[end] >= '0' && v[end] <= '9' || end == 0 && (v[0] == '-' || v[0] == '+')) {
		end++
	}
	n, err := strconv.ParseInt(string(v[:end]), 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return unset
	case err != nil:
		return 0
	}
	return uint32(n) //nolint:gosec // cut, as said
}
