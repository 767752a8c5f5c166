package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// ReadOnly reads the journal of a folder without locking or changing anything,
// also one that another process writes: what is whole in it now, in order.
// A folder that does not exist holds nothing. Of Options, Dir, FS and Logger matter.
func ReadOnly(o Options, fn func(*Batch) error) error {
	if err := o.defaults(); err != nil {
		return err
	}
	if _, err := o.FS.ReadDir(o.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	view, err := seglog.OpenReadOnly(seglogOptions(&o))
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	r, err := view.Reader(0)
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	defer func() { _ = r.Close() }() // only read
	if err := readBatches(r, o.Logger, func(_ uint64, b *Batch) error { return fn(b) }); err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	return nil
}

// Report is what a journal holds, in the eyes of Verify.
type Report struct {
	Disk    *seglog.Recovery // of the files
	Aside   []string         // files that an earlier start has set aside
	Entries uint64
	Records uint64
	// First and Last are LSNs; 0 when there is no entry.
	First, Last uint64
	// Holes are LSNs between First and Last that no entry has.
	Holes []Range
	// Bad are entries that cannot be decoded though their checksum holds.
	Bad []error
}

// Range is LSNs from First to Last.
type Range struct{ First, Last uint64 }

// Verify reads the whole journal of a folder without locking or changing anything
// and says what is wrong with it. fn, when not nil, gets each batch; nil when it
// begins from the start again, because the journal was trimmed meanwhile. progress
// is told of bytes read. A folder that does not exist is an empty journal.
func Verify(o Options, progress func(int64), fn func(*Batch)) (*Report, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	rep := &Report{Disk: &seglog.Recovery{}}
	if _, err := o.FS.ReadDir(o.Dir); errors.Is(err, fs.ErrNotExist) {
		return rep, nil
	}
	var err error
	rep.Disk, err = seglog.Inspect(seglogOptions(&o), func(name string, _ int64) { rep.Aside = append(rep.Aside, name) }, progress)
	if err != nil {
		return nil, fmt.Errorf("verify the journal: %w", err)
	}
	view, err := seglog.OpenReadOnly(seglogOptions(&o))
	if err != nil {
		return nil, fmt.Errorf("verify the journal: %w", err)
	}
	r, err := view.Reader(0)
	if err != nil {
		return nil, fmt.Errorf("verify the journal: %w", err)
	}
	defer func() { _ = r.Close() }() // only read
	for {
		index, payload, err := r.Next()
		var corrupt *seglog.CorruptError
		switch {
		case errors.Is(err, io.EOF):
			return rep, nil
		case errors.As(err, &corrupt):
			continue // Inspect has named it
		case errors.Is(err, seglog.ErrTruncated):
			if fn != nil {
				fn(nil)
			}
			return Verify(o, nil, fn)
		case err != nil:
			return nil, fmt.Errorf("verify the journal: %w", err)
		}
		b, err := decodeEntry(append([]byte(nil), payload...))
		if errors.Is(err, ErrVersion) {
			return nil, fmt.Errorf("verify the journal: entry %d: %w", index, err)
		}
		if err != nil {
			rep.Bad = append(rep.Bad, fmt.Errorf("entry %d: %w", index, err))
			continue
		}
		rep.take(index, b)
		if fn != nil {
			fn(b)
		}
	}
}

func (rep *Report) take(index uint64, b *Batch) {
	rep.Entries++
	rep.Records += uint64(len(b.Records))
	switch {
	case rep.First == 0:
		rep.First = b.First
	case b.First <= rep.Last:
		rep.Bad = append(rep.Bad, fmt.Errorf("entry %d: %w: LSN %d after %d", index, ErrEntry, b.First, rep.Last))
	case b.First > rep.Last+1:
		rep.Holes = append(rep.Holes, Range{rep.Last + 1, b.First - 1})
	}
	rep.Last = max(rep.Last, b.Last())
}

// CheckSenders says whether what the store keeps of resend detection can be read.
func CheckSenders(kvs []KV) error {
	_, err := loadSenders(kvs, len(kvs)+1)
	return err
}
