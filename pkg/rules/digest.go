package rules

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Digest returns a hash of rules as the kernel holds them: the same for lists that do the
// same. Within a filter list order counts; of the lists it does not, and the kernel lists
// one after another. How a rule was written does not count (-w or -F path=, -A or -a), nor
// the machine's byte order. What counts is what Equal compares.
func Digest(list []*Rule) [sha256.Size]byte {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b *Rule) int { return cmp.Compare(a.List, b.List) })
	h := sha256.New()
	h.Write([]byte("auditfleet-rules 1\n"))
	b := make([]byte, 0, 512)
	for _, r := range list {
		b = r.appendCanonical(b[:0])
		var n [4]byte
		binary.LittleEndian.PutUint32(n[:], uint32(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// appendCanonical appends bytes that are the same for rules that are Equal, and for no others.
func (r *Rule) appendCanonical(b []byte) []byte {
	put := func(v uint32) { b = binary.LittleEndian.AppendUint32(b, v) }
	put(uint32(r.List))
	put(uint32(r.Action))
	if r.Mask.All() {
		put(1)
	} else {
		put(0)
		for _, w := range r.Mask {
			put(w)
		}
	}
	put(uint32(len(r.Fields)))
	for _, f := range r.Fields {
		put(uint32(f.ID))
		put(uint32(f.Op))
		put(f.Value)
		put(uint32(len(f.Str)))
		b = append(b, f.Str...)
	}
	return b
}
