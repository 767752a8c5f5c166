package varint

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
)

func TestReader(t *testing.T) {
	b := binary.AppendUvarint(nil, 300)
	b = append(binary.AppendUvarint(b, 3), "abc"...)
	b = append(binary.AppendUvarint(b, 2), 1, 2)
	r := NewReader(b)
	if n := r.Uvarint(); n != 300 {
		t.Errorf("a number: %d", n)
	}
	text := r.Bytes(r.Uvarint())
	if string(text) != "abc" || cap(text) != 3 {
		t.Errorf("bytes: %q, room for %d", text, cap(text))
	}
	if n := r.Count(1); n != 2 || r.Len() != 2 || r.Done() {
		t.Errorf("a count: %d, %d bytes left, done %v", n, r.Len(), r.Done())
	}
	r.Bytes(2)
	if !r.Done() || r.Bad() {
		t.Error("all was read, and it does not say so")
	}
}

// After a mistake nothing more is read, of whatever kind it was.
func TestMistakes(t *testing.T) {
	for name, mistake := range map[string]func(*Reader){
		"the bytes end in a number":   func(r *Reader) { r.Bytes(1); r.Uvarint() },
		"a number beyond 64 bits":     func(r *Reader) { *r = NewReader(bytes.Repeat([]byte{0xff}, 11)); r.Uvarint() },
		"more bytes than there are":   func(r *Reader) { r.Bytes(3) },
		"a length beyond any slice":   func(r *Reader) { r.Bytes(math.MaxUint64) },
		"more things than there are":  func(r *Reader) { *r = NewReader([]byte{2, 0, 0, 0}); r.Count(2) },
		"what the caller calls wrong": func(r *Reader) { r.Fail() },
	} {
		r := NewReader([]byte{7, 0x80})
		mistake(&r)
		if !r.Bad() || r.Done() || r.Len() != 0 || r.Uvarint() != 0 || r.Bytes(1) != nil || r.Count(1) != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
