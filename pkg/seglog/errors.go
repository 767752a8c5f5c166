package seglog

import (
	"errors"
	"fmt"
)

var (
	// ErrMagic is returned when a file with a segment's name is not a segment.
	ErrMagic = errors.New("not a segment file")
	// ErrVersion is returned when a segment was written by a newer version.
	ErrVersion = errors.New("segment format is newer than this program")
	// ErrChecksum is returned when a header or a frame does not match its checksum.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrKind is returned when the folder holds another kind of log.
	ErrKind = errors.New("another kind of log")
	// ErrCut is the Damage.Err of entries lost because a segment ends before its
	// successor begins, or before what is known to have been durable.
	ErrCut = errors.New("the segment ends too early: it was cut")
	// ErrMissing is the Damage.Err of entries lost with a segment that is not in the folder.
	ErrMissing = errors.New("a segment is missing: it was taken away")
	// ErrRemoved is why a sync fails, with Options.WatchRemoved, when another program
	// deleted the active segment. Sync then writes its unsynced entries to a new one.
	ErrRemoved = errors.New("the segment was deleted while it was written")
	// ErrSwapped is the Damage.Err of a segment under the name of another one. It is read
	// as what its header says; no entry is lost.
	ErrSwapped = errors.New("swapped: the header is that of another segment, which is what the file is read as")
	// ErrDoubled is the Damage.Err of a second file with the header of a segment.
	ErrDoubled = errors.New("doubled: a second copy of a segment that is there")
	// ErrForeign is the Damage.Err of a file that has a segment's name and is none of this log.
	ErrForeign = errors.New("foreign: no segment of this log")
	// ErrContradicts is the Damage.Err of a segment whose first index contradicts the
	// segments before and after it.
	ErrContradicts = errors.New("foreign: it contradicts the segments around it")
	// ErrStale is the Damage.Err of a segment that was deleted and came back.
	ErrStale = errors.New("stale: its entries were stored and the segment deleted; it came back")
	// ErrNoSpace is returned by Append when the disk is full. Nothing of the
	// call is kept; the log stays usable and a later Append may succeed.
	ErrNoSpace = errors.New("no space left for the log")
	// ErrTooLarge is returned by Append for an entry over MaxEntry or a batch
	// over MaxBatch bytes.
	ErrTooLarge = errors.New("entry too large")
	// ErrFailed is returned once neither the old segment nor a new one could be
	// made durable. The log takes no more entries; what was synced is safe.
	// Close and Open again when the cause is gone.
	ErrFailed = errors.New("log failed")
	// ErrClosed is returned by every use after Close.
	ErrClosed = errors.New("log is closed")
	// ErrTruncated is returned by a reader whose next entry TruncateFront has removed.
	ErrTruncated = errors.New("entry was truncated from the log")
	// ErrBeyond is returned by Log.Reader for a start beyond the index of the next Append.
	ErrBeyond = errors.New("index is beyond the log's end")
)

// CorruptError says where stored bytes are damaged and which entries are gone.
// A Reader returns it once for each damaged place and then goes on behind it.
type CorruptError struct {
	File        string
	Offset      int64
	First, Last uint64 // entries lost; none when First > Last
	Err         error
}

// Error says where the damage is and which entries it costs.
func (e *CorruptError) Error() string {
	lost := "no entry lost"
	if e.First <= e.Last {
		lost = fmt.Sprintf("entries %d to %d lost", e.First, e.Last)
	}
	return fmt.Sprintf("%s: damaged at offset %d: %v: %s", e.File, e.Offset, e.Err, lost)
}

// Unwrap returns Err.
func (e *CorruptError) Unwrap() error { return e.Err }
