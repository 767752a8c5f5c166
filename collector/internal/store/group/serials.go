package group

import (
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/varint"
)

// The serials of events are kept as ranges of numbers that follow one another: a host counts its events. All hosts together: a search for a serial
// that no event has opens nothing.
const (
	mostRanges = 4096           // that a filter has: it takes some µs to read them, and at most 80 KiB
	roomRanges = 8 * mostRanges // that are kept while they come
)

type serialRange struct{ first, last uint64 }

// serials are those of all events that were added. The zero value is ready.
type serials struct {
	ranges []serialRange
	events uint64
}

// add adds an event's. Events come by host and time, so most of them lengthen the last range.
func (s *serials) add(serial uint64) {
	s.events++
	if n := len(s.ranges); n > 0 {
		last := &s.ranges[n-1]
		if serial >= last.first && serial <= last.last {
			return
		}
		if serial == last.last+1 && serial != 0 {
			last.last = serial
			return
		}
	}
	s.ranges = append(s.ranges, serialRange{serial, serial})
	if len(s.ranges) >= roomRanges {
		s.join(mostRanges)
	}
}

// join sorts the ranges and makes one of those that meet. Where more than most are left, it fills the narrowest gaps between them: what lies in these
// is then said to be there, too.
func (s *serials) join(most int) {
	slices.SortFunc(s.ranges, func(a, b serialRange) int { return cmp.Compare(a.first, b.first) })
	s.fill(0)
	if len(s.ranges) <= most {
		return
	}
	gaps := make([]uint64, 0, len(s.ranges)-1)
	for i := 1; i < len(s.ranges); i++ {
		gaps = append(gaps, s.ranges[i].first-s.ranges[i-1].last-1)
	}
	slices.Sort(gaps)
	s.fill(gaps[len(s.ranges)-most-1])
}

// fill makes one of ranges with no more than gap numbers between them.
func (s *serials) fill(gap uint64) {
	out := s.ranges[:0]
	for _, r := range s.ranges {
		if n := len(out); n > 0 && (r.first <= out[n-1].last || r.first-out[n-1].last-1 <= gap) {
			out[n-1].last = max(out[n-1].last, r.last)
			continue
		}
		out = append(out, r)
	}
	s.ranges = out
}

// encode returns the ranges as a filter has them.
func (s *serials) encode() []byte {
	s.join(mostRanges)
	out, prev := make([]byte, 4), uint64(0)
	for _, r := range s.ranges {
		out = binary.AppendUvarint(out, r.first-prev)
		out = binary.AppendUvarint(out, r.last-r.first)
		prev = r.last
	}
	binary.LittleEndian.PutUint32(out, crc32.Checksum(out[4:], castagnoli))
	return out
}

// soundSerials reports whether the checksum of what encode returned is right.
func soundSerials(b []byte) bool {
	return len(b) >= 4 && crc32.Checksum(b[4:], castagnoli) == binary.LittleEndian.Uint32(b)
}

// mayHaveSerial looks into what encode returned. It is true also for damaged bytes.
func mayHaveSerial(b []byte, serial uint64) bool {
	if !soundSerials(b) {
		return true
	}
	r := varint.NewReader(b[4:])
	for at := uint64(0); !r.Done(); {
		at += r.Uvarint()
		last := at + r.Uvarint()
		if r.Bad() || last < at {
			return true
		}
		if serial < at {
			return false
		}
		if serial <= last {
			return true
		}
		at = last
	}
	return false
}
