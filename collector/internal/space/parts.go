package space

// A segment of the journal, which is set aside at once, and a table, which becomes a group
// of a partition, must both fit into the disk's reserve, also on a small disk. So each is at
// most its part of the reserve, and at most a maximum.
const (
	segmentPart, maxSegment = 2, 64 << 20
	tablePart, maxTable     = 3, 48 << 20
	minPart                 = 1 << 20
	// openPart: open events may take a sixteenth of the disk in memory, which is about
	// half of what they take in the journal.
	openPart = 16
)

// SegmentBytes returns how large a segment of the journal may be.
func (w *Watcher) SegmentBytes() int64 { return w.part(segmentPart, maxSegment) }

// TableBytes returns how much memory a table of events may take.
func (w *Watcher) TableBytes() int64 { return w.part(tablePart, maxTable) }

// part returns the reserve divided by part, from minPart up to most; most where nothing is
// reserved.
func (w *Watcher) part(part, most int64) int64 {
	reserve := int64(w.Status().Reserve)
	if reserve == 0 {
		return most
	}
	return min(most, max(reserve/part, minPart))
}

// OpenBytes returns how much memory open events may take: what is configured, or less on a
// small disk.
func (w *Watcher) OpenBytes(configured int64) int64 {
	if total := int64(w.Status().Usage.Total); total > 0 {
		return min(configured, max(total/openPart, minPart))
	}
	return configured
}
