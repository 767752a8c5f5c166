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
