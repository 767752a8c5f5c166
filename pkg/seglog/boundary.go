package seglog

// Boundary returns the least index for which TruncateFront frees a segment: that of the
// first entry behind the oldest segment. It returns 0 when there is only one segment,
// which TruncateFront never deletes. A queue that must make room drops all entries
// before Boundary.
func (l *Log) Boundary() uint64 {
	if list := *l.segments.Load(); len(list) > 1 {
		return list[1].first
	}
	return 0
}

// Start returns the first index of the segment that holds the entry index, or would hold
// it: after TruncateFront(index) the log begins there. n is how many older segments have
// entries at or after from.
func (l *Log) Start(index, from uint64) (start uint64, n int) {
	list := *l.segments.Load()
	start = list[0].first
	for _, seg := range list[1:] {
		if seg.first > index {
			break
		}
		if start = seg.first; start > from {
			n++
		}
	}
	return start, n
}
