package oldlogs

import (
	"errors"
	"os"
	"time"

	"github.com/auditfleet/auditfleet/pkg/logscan"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// Torn says what became of a last line without its newline. A daemon may be writing it, and whoever copies a log may have come no
// further: half of a record that is taken would stay beside the whole one.
type Torn string

const (
	TornWaits Torn = "waits" // it may be written on: it is not taken, and another run reads it
	TornTaken Torn = "taken" // it stays as it is: its record was taken as far as it goes
	TornLost  Torn = "lost"  // likewise, but it is no record as far as it goes, or one whose time or serial may be cut off: it is not taken
)

// settles is for how long nobody has written to a file whose last line is as it stays.
const settles = time.Minute

// settled reports whether a file is as it stays. A time far ahead is of another clock.
func settled(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && time.Since(info.ModTime()).Abs() >= settles
}

// last takes a last line that has no newline, where it stays as it is and is a record as far as it goes.
func (l *lineReader) last(line []byte, stays bool) error {
	var r record.Record
	err := r.Parse(line)
	switch {
	case logscan.PackedIn(line) >= 0 && !l.entry.File.Packed: // which is said
	case !stays:
		l.sum.Torn = TornWaits
		return nil
	case !r.IsRecord(), errors.Is(err, record.ErrBadTime), errors.Is(err, record.ErrBadSerial):
		l.sum.Torn = TornLost
		return nil
	default:
		l.sum.Torn = TornTaken
	}
	return l.line(line)
}
