// Package powercut shows what a power cut leaves of our files. A program works on a
// filesystem on a virtual disk that logs every write and flush; afterwards the disk is made
// again as it was at any point of that log, also without any of the writes that it had not
// been told to flush, and the programs are started on it. `make powertest` runs it. Only
// its own tests import it; it imports integration/harness only.
package powercut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
)

// Flags of an Entry.
const (
	Flush   = 1 << iota // all writes before are on stable storage
	FUA                 // this write is, once it is done
	Discard             // the sectors' contents are given up
	Mark                // a name for this point of the log
)

// The log is in the format of the kernel's dm-log-writes, as qemu's driver blklogwrites
// writes it: a superblock, then the entries, each a header and the data of its write. All
// begin at sectors of the log.
const (
	magic      = 0x6a736677736872
	superSize  = 32
	headerSize = 32
	// The largest write that an entry may have; more is no log of this kind.
	maxWrite = 1 << 30
)

// ErrFormat is returned for what is no such log.
var ErrFormat = errors.New("not a log of writes")

// Entry is one write, flush or discard.
type Entry struct {
	Offset, Size int64 // of the disk, in bytes
	Flags        uint64
	End          int64 // where it ends in the log's file
	data         int64 // where its data are there
}

// Log is a log of writes. Its methods may be called at once.
type Log struct {
	Entries []Entry
	f       io.ReaderAt
}

// OpenLog reads the log of size bytes. A last entry that is not whole is left out: while a disk
// is in use the file grows.
func OpenLog(f io.ReaderAt, size int64) (*Log, error) {
	var super [superSize]byte
	if _, err := f.ReadAt(super[:], 0); err != nil {
		return nil, fmt.Errorf("%w: its superblock: %w", ErrFormat, err)
	}
	sector := int64(binary.LittleEndian.Uint32(super[24:]))
	if got := binary.LittleEndian.Uint64(super[:]); got != magic {
		return nil, fmt.Errorf("%w: it begins with %#x", ErrFormat, got)
	}
	if version := binary.LittleEndian.Uint64(super[8:]); version != 1 {
		return nil, fmt.Errorf("%w: version %d", ErrFormat, version)
	}
	if sector < headerSize || sector > 1<<20 || sector&(sector-1) != 0 {
		return nil, fmt.Errorf("%w: sectors of %d bytes", ErrFormat, sector)
	}
	l := &Log{f: f}
	var head [headerSize]byte
	for at := sector; at+sector <= size; {
		if _, err := f.ReadAt(head[:], at); err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(l.Entries), err)
		}
		first, number := binary.LittleEndian.Uint64(head[:]), binary.LittleEndian.Uint64(head[8:])
		flags, text := binary.LittleEndian.Uint64(head[16:]), binary.LittleEndian.Uint64(head[24:])
		if first > 1<<50/uint64(sector) || number > maxWrite/uint64(sector) && flags&Discard == 0 || number > 1<<50/uint64(sector) || text > uint64(sector) {
			return nil, fmt.Errorf("%w: entry %d at byte %d: sector %d, %d sectors", ErrFormat, len(l.Entries), at, first, number)
		}
		e := Entry{Offset: int64(first) * sector, Size: int64(number) * sector, Flags: flags, data: at + sector, End: at + sector}
		switch {
		case flags&Mark != 0:
			e.Offset, e.Size = 0, 0 // its text lies in the header's sector
		case flags&Discard == 0:
			e.End += e.Size
		}
		if e.End > size {
			break
		}
		l.Entries = append(l.Entries, e)
		at = e.End
	}
	return l, nil
}

// At returns how many entries there were when the log's file had so many bytes.
func (l *Log) At(size int64) int {
	return sort.Search(len(l.Entries), func(i int) bool { return l.Entries[i].End > size })
}

// Flushed returns how many of the first n entries a flush has made durable.
func (l *Log) Flushed(n int) int {
	for n > 0 && l.Entries[n-1].Flags&Flush == 0 {
		n--
	}
	return n
}

// write does one part of a write, or a discard, on a disk.
func (l *Log) write(disk *os.File, e Entry, from, to int64) error {
	if from >= to || e.Flags&Mark != 0 {
		return nil
	}
	b := make([]byte, to-from) // what is discarded reads as zeros afterwards
	if e.Flags&Discard == 0 {
		if _, err := l.f.ReadAt(b, e.data+from); err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
	}
	if _, err := disk.WriteAt(b, e.Offset+from); err != nil {
		return fmt.Errorf("write the disk: %w", err)
	}
	return nil
}
