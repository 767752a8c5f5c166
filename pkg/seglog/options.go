package seglog

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Preallocate says whether a new segment's space is allocated when it is begun.
type Preallocate int

const (
	// PreallocateSpace uses fallocate(2): a full disk is noticed when the
	// segment is begun, and appends do not change the file's size. The default.
	PreallocateSpace Preallocate = iota
	// PreallocateNone lets the file grow with each append.
	PreallocateNone
)

// Options configures Open, OpenReadOnly and Inspect. FS, Dir and Kind are required.
type Options struct {
	FS  fsys.FS
	Dir string // made with mode 0700 when missing
	// Kind is kept in every segment and checked, at most 16 bytes: "journal".
	Kind string
	// SegmentBytes is the size at which a new segment is begun; 64 MiB by default. An
	// Append is never split, so a segment whose first batch is larger grows beyond it.
	SegmentBytes int64
	// MaxUnsynced bounds the bytes kept in memory until they are synced, 16 MiB
	// by default: an Append that would pass it syncs first.
	MaxUnsynced int
	// ReadBuffer is a Reader's buffer in bytes, 256 KiB by default.
	ReadBuffer  int
	Preallocate Preallocate
	// Hold keeps the segments' files open (at most 512): Readers still read a segment that
	// another program has removed or renamed, and KeepHome restores it.
	Hold bool
	// Durable returns the index up to which the caller knows entries to have been durable,
	// from a record of its own. Open calls it once, with the folder locked; nil: only the
	// log's own marks count.
	Durable func() (uint64, error)

	// WatchRemoved makes Sync notice that another program deleted the active segment, and
	// go on in a new one. Without it, entries appended afterwards go into a file without
	// a name and are lost when the process ends.
	WatchRemoved bool

	// ID is kept in every new segment and checked; zero for a log without.
	ID ID
	// Known is what Changed last made durable; the zero value when the owner stores nothing.
	Known Known
	// Changed, unless nil, must make k durable before it returns. Type Known says when it
	// is called; the log's lock is held, so it must not call the log. When it fails, so
	// does what it was called for: a new segment is not begun, none is deleted. lost is
	// what Open found damaged or missing; later Opens with this k do not find it again.
	Changed func(k Known, lost []Damage) error

	seed func() uint32 // tests only: what checksums start from
}

func (o Options) withDefaults() (Options, error) {
	if o.FS == nil || o.Dir == "" {
		return o, errors.New("seglog: Options need FS and Dir")
	}
	if o.Kind == "" || len(o.Kind) > kindSize {
		return o, fmt.Errorf("seglog: kind %q: want 1 to %d bytes", o.Kind, kindSize)
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.SegmentBytes < 2*dataOffset {
		o.SegmentBytes = 2 * dataOffset
	}
	if o.MaxUnsynced <= 0 {
		o.MaxUnsynced = 16 << 20
	}
	if o.ReadBuffer <= 0 {
		o.ReadBuffer = 256 << 10
	}
	o.ReadBuffer = max(o.ReadBuffer, 4<<10)
	if o.seed == nil {
		o.seed = randomSeed
	}
	return o, nil
}

func randomSeed() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand since Go 1.24)
	return binary.LittleEndian.Uint32(b[:])
}
