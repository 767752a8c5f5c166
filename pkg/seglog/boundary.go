package seglog

// Boundary is the least index whose TruncateFront frees a segment: the first
// entry behind the oldest segment. 0 when there is only one segment, which stays.
// A queue that must make room drops everything before it.
func (l *Log) Boundary() uint64 {
	if list := *l.segments.Load(); len(list) > 1 {
		return list[1].first
	}
	return 0
}

// Start is the first index of the segment that holds an entry, or would: what
// TruncateFront of that entry leaves begins there. n is how many older segments have
// entries from another index on.
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
