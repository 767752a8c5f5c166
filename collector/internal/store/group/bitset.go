package group

import "math/bits"

// bitset is a set of a group's events, a bit an ordinal. The bits behind the last event,
// up to a multiple of 64, are never set.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (s bitset) and(o bitset) {
	for i := range s {
		s[i] &= o[i]
	}
}

func (s bitset) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

func (s bitset) any() bool {
	for _, w := range s {
		if w != 0 {
			return true
		}
	}
	return false
}

// fill adds the events of [from, to).
func (s bitset) fill(from, to uint32) {
	for i := from; i < to; {
		if i%64 == 0 && to-i >= 64 {
			s[i/64] = ^uint64(0)
			i += 64
			continue
		}
		s[i/64] |= 1 << (i % 64)
		i++
	}
}

// word returns the bits of s[i] that lie within [from, to).
func (s bitset) word(i, from, to uint32) uint64 {
	w := s[i]
	if i == from/64 {
		w &= ^uint64(0) << (from % 64)
	}
	if i == to/64 {
		w &= 1<<(to%64) - 1
	}
	return w
}

// count returns how many events of [from, to) are in the set.
func (s bitset) count(from, to uint32) int {
	n := 0
	for i := from / 64; i < uint32(len(s)) && i*64 < to; i++ {
		n += bits.OnesCount64(s.word(i, from, to))
	}
	return n
}

// list returns the events of [from, to) that are in the set, counted from from; n is how
// many there are, by count.
func (s bitset) list(from, to uint32, n int) []uint32 {
	out := make([]uint32, 0, n)
	for i := from / 64; i < uint32(len(s)) && i*64 < to; i++ {
		for w := s.word(i, from, to); w != 0; w &= w - 1 {
			out = append(out, i*64+uint32(bits.TrailingZeros64(w))-from)
		}
	}
	return out
}
