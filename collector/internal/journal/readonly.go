package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// ReadOnly reads the journal of a folder without locking or changing anything,
// also one that another process writes: what is whole in it now, in order.
// A folder that does not exist holds nothing. Of Options, Dir, FS, Logger, ID and
// Known matter. Carried records come as Start gives them. damage is what is missing because it is damaged or was taken away.
func ReadOnly(o Options, place Place, fn func(*Batch) error) (damage []error, err error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	if _, err := o.FS.ReadDir(o.Dir); errors.Is(err, fs.ErrNotExist) {
		if k := o.Known; k.Newest > 0 {
			damage = append(damage, Lost(o.Dir, k.First, k.Last, seglog.ErrMissing))
		}
		return damage, nil
	}
	view, err := seglog.OpenReadOnly(seglogOptions(&o))
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	if err := carriedFirst(o.Logger, func() (entries, error) { return view.Reader(0) }, place, fn); err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	r, err := view.Reader(0)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	defer func() { _ = r.Close() }() // only read
	next, never := uint64(1), neverSynced{o: seglogOptions(&o)}
	noting := nextFunc(func() (uint64, []byte, error) {
		index, payload, err := r.Next()
		var corrupt *seglog.CorruptError
		if errors.As(err, &corrupt) && corrupt.First <= corrupt.Last {
			if !never.was(corrupt) {
				damage = append(damage, Lost(corrupt.File, corrupt.First, corrupt.Last, corrupt.Err))
			}
			next = corrupt.Last + 1
		}
		if err == nil {
			next = index + 1
		}
		return index, payload, err
	})
	err = readBatches(noting, o.Logger, func(_ uint64, b *Batch) error {
		if b.Carried {
			return nil
		}
		return fn(b)
	})
	if err != nil {
		return damage, fmt.Errorf("read the journal: %w", err)
	}
	for _, d := range view.Missing(next) {
		damage = append(damage, Lost(filepath.Join(o.Dir, d.File), d.First, d.Last, d.Err))
	}
	return damage, nil
}

// neverSynced tells what a power loss took before it was synced, which nobody was told is safe, from
// damage, in a journal that was not opened since.
type neverSynced struct {
	o     seglog.Options
	found *seglog.Recovery // nil until somebody asks
}

func (n *neverSynced) was(e *seglog.CorruptError) bool {
	if n.found == nil {
		var err error
		if n.found, err = seglog.Inspect(n.o, nil, nil); err != nil {
			n.found = &seglog.Recovery{} // it is said, rather than not
		}
	}
	return e.First <= e.Last && n.found.NeverSynced(e.First, e.Last)
}

// Lost says of entries that are not there what that means.
func Lost(file string, first, last uint64, cause error) error {
	if first > last {
		return fmt.Errorf("%s: %w: what was written to it since it was begun and is not stored yet is missing", file, cause)
	}
	return fmt.Errorf("%s: entries %d to %d are lost: %w: what of them is not stored yet is missing", file, first, last, cause)
}

// nextFunc is a function that does what a seglog reader does.
type nextFunc func() (uint64, []byte, error)

func (f nextFunc) Next() (uint64, []byte, error) { return f() }

// Report is what a journal holds, in the eyes of Verify.
type Report struct {
	Disk    *seglog.Recovery // of the files
	Aside   []string         // files that an earlier start has set aside
	Entries uint64
	Records uint64
	// First and Last are LSNs; 0 when there is no entry, those of carried records apart.
	First, Last uint64
	// Carried are the LSNs of carried records.
	Carried map[uint64]bool
	// Holes are LSNs between First and Last that no entry has, but for those of entries that a
	// power loss took before they were synced.
	Holes []Range
	// Unsynced are those.
	Unsynced []Range
	// Front says that it took entries before First, too, whose LSNs nobody knows.
	Front bool
	// Bad are entries that cannot be decoded though their checksum holds.
	Bad []error

	index   uint64  // of the last entry
	missing []Range // indexes of entries between that of Last and the present one
}

// Range is LSNs from First to Last.
type Range struct{ First, Last uint64 }

// Verify reads the whole journal of a folder without locking or changing anything
// and says what is wrong with it. fn, when not nil, gets each batch, carried ones in
// their place; nil when it
// begins from the start again, because the journal was trimmed meanwhile. progress
// is told of bytes read. A folder that does not exist is an empty journal.
func Verify(o Options, progress func(int64), fn func(*Batch)) (*Report, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	for range verifyTimes {
		rep, err := verifyOnce(&o, progress, fn)
		if !errors.Is(err, seglog.ErrTruncated) {
			return rep, err
		}
		if fn != nil {
			fn(nil)
		}
		progress = nil
	}
	return nil, fmt.Errorf("verify the journal: it was trimmed %d times while it was read: try again when less comes in", verifyTimes)
}

// verifyTimes is how often a journal that is trimmed meanwhile is read.
const verifyTimes = 20

// verifyOnce is Verify until the journal is trimmed: then it returns seglog.ErrTruncated.
func verifyOnce(o *Options, progress func(int64), fn func(*Batch)) (*Report, error) {
	rep := &Report{Disk: &seglog.Recovery{}}
	if _, err := o.FS.ReadDir(o.Dir); errors.Is(err, fs.ErrNotExist) {
		if k := o.Known; k.Newest > 0 {
			rep.Disk.Damaged = append(rep.Disk.Damaged, seglog.Damage{First: k.First, Last: k.Last, Certain: true, Err: seglog.ErrMissing})
		}
		return rep, nil
	}
	var err error
	rep.Disk, err = seglog.Inspect(seglogOptions(o), func(name string, _ int64) { rep.Aside = append(rep.Aside, name) }, progress)
	if err != nil {
		return nil, fmt.Errorf("verify the journal: %w", err)
	}
	view, err := seglog.OpenReadOnly(seglogOptions(o))
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
		rep.count(index, b)
		if fn != nil {
			fn(b)
		}
	}
}

func (rep *Report) count(index uint64, b *Batch) {
	rep.Entries++
	if before := max(rep.index+1, rep.Disk.First); index > before {
		rep.missing = append(rep.missing, Range{before, index - 1})
	}
	rep.index = index
	if b.Carried {
		if rep.Carried == nil {
			rep.Carried = map[uint64]bool{}
		}
		for i := range b.Records {
			rep.Carried[b.First+uint64(i)] = true
		}
		return
	}
	rep.Records += uint64(len(b.Records))
	never := len(rep.missing) > 0
	for _, m := range rep.missing {
		never = never && rep.Disk.NeverSynced(m.First, m.Last)
	}
	rep.missing = rep.missing[:0]
	switch {
	case rep.First == 0:
		rep.First, rep.Front = b.First, never
	case b.First <= rep.Last:
		rep.Bad = append(rep.Bad, fmt.Errorf("entry %d: %w: LSN %d after %d", index, ErrEntry, b.First, rep.Last))
	case b.First > rep.Last+1 && never:
		rep.Unsynced = append(rep.Unsynced, Range{rep.Last + 1, b.First - 1})
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
