// Package varint takes apart bytes that were written by encoding/binary: numbers of
// variable length, and what they say the length of. The formats of journal and store
// are read with it. It imports nothing of ours.
package varint

import "encoding/binary"

// Reader reads from the front of a slice. Its first mistake (the bytes end within a
// number, a length goes beyond the end) makes it Bad: from then on nothing is left and
// every number is 0, so that a caller may read a whole structure and ask once, at its
// end, whether any of it was there. Until then it must trust no number as a size:
// Bytes and Count check that for it. Nothing is copied: what Bytes returns aliases the
// slice. The zero value reads nothing.
type Reader struct {
	rest []byte
	bad  bool
}

// NewReader reads b.
func NewReader(b []byte) Reader { return Reader{rest: b} }

// Uvarint reads a number as binary.AppendUvarint writes it.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// Bytes reads the next n bytes; nil when there are fewer.
func (r *Reader) Bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.Fail()
		return nil
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out
}

// Count reads a number of things that take size bytes each at least, and so may be
// made room for: it is 0, and a mistake, when so many can't follow.
func (r *Reader) Count(size int) int {
	n := r.Uvarint()
	if n > uint64(len(r.rest)/size) {
		r.Fail()
		return 0
	}
	return int(n)
}

// Fail makes the Reader Bad: for a caller that finds a mistake itself.
func (r *Reader) Fail() { r.bad, r.rest = true, nil }

// Bad says whether there was a mistake.
func (r *Reader) Bad() bool { return r.bad }

// Len is how many bytes are left.
func (r *Reader) Len() int { return len(r.rest) }

// Done says that everything was read, and nothing beyond it.
func (r *Reader) Done() bool { return !r.bad && len(r.rest) == 0 }
