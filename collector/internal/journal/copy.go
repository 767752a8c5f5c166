package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// ErrTrimmed is returned by Copier.Take when the journal was trimmed of entries
// that were not read yet: the copy has to begin again.
var ErrTrimmed = errors.New("the journal was trimmed while it was copied")

// Copier copies entries of a journal, which another process may be writing, into
// a new one. It neither locks nor changes the one it reads.
type Copier struct {
	from   *seglog.Reader // nil: there is no journal to read
	to     *seglog.Log
	queue  [][]byte
	queued int
	// Entries and Bytes were copied.
	Entries uint64
	Bytes   int64
	// Damage are places that could not be read.
	Damage []error
	never  neverSynced
}

// copyBytes is about what is written to the copy at once.
const copyBytes = 4 << 20

// NewCopier begins a copy of the journal in from.Dir at its oldest entry. to.Dir
// must not hold a journal yet.
func NewCopier(from, to Options) (_ *Copier, err error) {
	if err := errors.Join(from.defaults(), to.defaults()); err != nil {
		return nil, err
	}
	c := &Copier{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("copy the journal: %w", err), c.Close())
		}
	}()
	o := seglogOptions(&to)
	o.Preallocate = seglog.PreallocateNone
	log, rec, err := seglog.Open(o)
	if err != nil {
		return nil, err
	}
	c.to = log
	if rec.Last > 0 {
		return nil, fmt.Errorf("%s holds a journal already", to.Dir)
	}
	if _, err := from.FS.ReadDir(from.Dir); errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	view, err := seglog.OpenReadOnly(seglogOptions(&from))
	if err != nil {
		return nil, err
	}
	c.never.o = seglogOptions(&from)
	c.from, err = view.Reader(0)
	return c, trimmed(err)
}

func trimmed(err error) error {
	if errors.Is(err, seglog.ErrTruncated) {
		return fmt.Errorf("%w: %w", ErrTrimmed, err)
	}
	return err
}

// Take copies what there is up to the present end, but for batches that need says
// no to.
func (c *Copier) Take(need func(*Batch) bool) error {
	if c.from == nil {
		return nil
	}
	for {
		_, payload, err := c.from.Next()
		var corrupt *seglog.CorruptError
		switch {
		case errors.Is(err, io.EOF):
			return c.flush()
		case errors.As(err, &corrupt):
			if !c.never.was(corrupt) {
				c.Damage = append(c.Damage, err)
			}
			continue
		case err != nil:
			return fmt.Errorf("copy the journal: %w", trimmed(err))
		}
		b, err := decodeEntry(payload)
		if err == nil && !need(b) {
			continue
		}
		// What cannot be decoded is copied all the same: somebody may want to look.
		c.queue = append(c.queue, append([]byte(nil), payload...))
		c.queued += len(payload)
		c.Entries++
		c.Bytes += int64(len(payload))
		if c.queued >= copyBytes {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
}

func (c *Copier) flush() error {
	if len(c.queue) == 0 {
		return nil
	}
	_, err := c.to.Append(c.queue...)
	clear(c.queue)
	c.queue, c.queued = c.queue[:0], 0
	if err != nil {
		return fmt.Errorf("write the journal's copy: %w", err)
	}
	return nil
}

// Close makes the copy durable.
func (c *Copier) Close() error {
	var errs []error
	if c.from != nil {
		errs = append(errs, c.from.Close())
		c.from = nil
	}
	if c.to != nil {
		errs = append(errs, c.to.Sync(), c.to.Close())
		c.to = nil
	}
	return errors.Join(errs...)
}
