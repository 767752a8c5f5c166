package seglog

import (
	"slices"
	"sync"
	"sync/atomic"
)

// segment is one file of the log. Its header, name and size do not change once it is in
// the list of segments. end only grows while the segment is active, and is stored after
// the frames before it were written: a Reader may read every byte below it. (Only
// switchSegment lowers it, after the successor is in the list.)
type segment struct {
	header
	name string
	bad  *badCopy // a damaged copy of the header, found by Open
	size int64    // of the file, when the folder was read
	// skipped says that generations are missing between this segment and the next.
	skipped bool
	end     atomic.Int64 // offset behind the last frame written; -1: unknown, not ours
	mu      sync.Mutex   // guards points and held
	// points are offsets of some entries, ascending, from which a Reader starts near its
	// entry. mu guards them; only the writer of the segment's frames changes them, so it
	// may read them without mu.
	points []point
	held   *held // guarded by mu; nil: the file is not kept open
}

// point is where an entry's frame begins.
type point struct {
	index uint64
	off   int64
}

// pointEvery is how many bytes lie between two points of a segment.
const pointEvery = 64 << 10

// addPoint adds a point for an entry when the last point lies at least pointEvery bytes
// before it. Only the writer of the segment's frames calls it, in order of indexes.
func (s *segment) addPoint(index uint64, off int64) {
	if n := len(s.points); n > 0 && off-s.points[n-1].off < pointEvery {
		return
	}
	s.mu.Lock()
	s.points = append(s.points, point{index, off})
	s.mu.Unlock()
}

// near returns an offset at or before the entry.
func (s *segment) near(index uint64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := slices.BinarySearchFunc(s.points, index+1, func(p point, want uint64) int {
		if p.index < want {
			return -1
		}
		return 1
	})
	if i == 0 {
		return dataOffset
	}
	return s.points[i-1].off
}
