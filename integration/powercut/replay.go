package powercut

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Kind says what becomes of the writes that were not flushed when the power failed.
type Kind int

// Every one of them is what a disk may do: it writes back what it has in its cache in the order that it likes.
const (
	All    Kind = iota // they are all there
	None               // none is
	Some               // any of them are
	Torn               // any sectors of any of them are
	Kinds  = 4
	sector = 512
)

func (k Kind) String() string { return [...]string{"all", "none", "some", "torn"}[k] }

// Cut is a moment at which the power fails.
type Cut struct {
	Entries int // of the log, that the disk had got
	Kind    Kind
	Seed    uint64 // draws what is there of Some and Torn
}

func (c Cut) String() string { return fmt.Sprintf("entry %d, %v, seed %d", c.Entries, c.Kind, c.Seed) }

// Disk makes a disk again as cuts leave it. Its methods may be called at once; cuts must come in
// ascending order.
type Disk struct {
	log  *Log
	mu   sync.Mutex // guards what follows
	base *os.File   // the disk with the entries before done
	done int
}

// NewDisk replays the log on base, a copy of the disk as it was when the log began, which it changes.
func NewDisk(log *Log, base *os.File) *Disk { return &Disk{log: log, base: base} }

// Make writes the disk after a cut to a new file. It returns how many of the writes that were not
// flushed are missing there, as a whole or in part, and how many there were.
func (d *Disk) Make(c Cut, to string) (missing, unflushed int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	durable := d.log.Flushed(c.Entries)
	if durable < d.done {
		return 0, 0, fmt.Errorf("a cut at entry %d behind one at %d", c.Entries, d.done)
	}
	for ; d.done < durable; d.done++ {
		e := d.log.Entries[d.done]
		if err := d.log.write(d.base, e, 0, e.Size); err != nil {
			return 0, 0, err
		}
	}
	f, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := copySparse(f, d.base); err != nil {
		return 0, 0, err
	}
	rng := rand.New(rand.NewPCG(c.Seed, uint64(c.Entries)))
	keep := rng.Float64() // some disks had written back nearly all, others nearly nothing
	for _, e := range d.log.Entries[durable:c.Entries] {
		if e.Size == 0 {
			continue
		}
		unflushed++
		whole, err := d.leave(f, e, c.Kind, func() bool { return rng.Float64() < keep })
		if err != nil {
			return 0, 0, err
		}
		if !whole {
			missing++
		}
	}
	return missing, unflushed, nil
}

// leave does of a write that was not flushed what the kind of cut leaves of it.
func (d *Disk) leave(f *os.File, e Entry, kind Kind, kept func() bool) (whole bool, err error) {
	switch {
	case e.Flags&FUA != 0 || kind == All:
		return true, d.log.write(f, e, 0, e.Size)
	case kind == None:
		return false, nil
	case kind == Some || e.Flags&Discard != 0:
		if !kept() {
			return false, nil
		}
		return true, d.log.write(f, e, 0, e.Size)
	}
	whole = true
	for at := int64(0); at < e.Size; at += sector {
		if !kept() {
			whole = false
			continue
		}
		if err := d.log.write(f, e, at, min(at+sector, e.Size)); err != nil {
			return false, err
		}
	}
	return whole, nil
}

// copySparse copies a file with its holes.
func copySparse(to, from *os.File) error {
	info, err := from.Stat()
	if err != nil {
		return err
	}
	if err := to.Truncate(info.Size()); err != nil {
		return err
	}
	for at := int64(0); ; {
		data, err := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole is left
		}
		if err != nil {
			return fmt.Errorf("find data: %w", err)
		}
		if at, err = unix.Seek(int(from.Fd()), data, unix.SEEK_HOLE); err != nil {
			return fmt.Errorf("find a hole: %w", err)
		}
		if _, err := io.Copy(io.NewOffsetWriter(to, data), io.NewSectionReader(from, data, at-data)); err != nil {
			return fmt.Errorf("copy the disk: %w", err)
		}
	}
}
