package space

// What the journal sets aside at once, and what a table makes of a partition, must fit
// into the disk's reserve, also on a small disk: the parts of it, and the most they are.
const (
	segmentPart, maxSegment = 2, 64 << 20
	tablePart, maxTable     = 3, 48 << 20
	minPart                 = 1 << 20
	// openPart is what part of the disk open events may take in memory, and so about
	// half of what they take in the journal.
	openPart = 16
)

// SegmentBytes is how large a segment of the journal may be.
func (w *Watcher) SegmentBytes() int64 { return w.part(segmentPart, maxSegment) }

// TableBytes is how much memory a table of events may take.
func (w *Watcher) TableBytes() int64 { return w.part(tablePart, maxTable) }

// part is a part of the reserve; most where nothing is kept.
func (w *Watcher) part(part, most int64) int64 {
	reserve := int64(w.Status().Reserve)
	if reserve == 0 {
		return most
	}
	return min(most, max(reserve/part, minPart))
}

// OpenBytes is how much memory open events may take of what is configured: less on a
// small disk.
func (w *Watcher) OpenBytes(configured int64) int64 {
	if total := int64(w.Status().Usage.Total); total > 0 {
		return min(configured, max(total/openPart, minPart))
	}
	return configured
}
