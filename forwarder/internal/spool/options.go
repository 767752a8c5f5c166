package spool

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// FullPolicy says what a full spool gives up: its oldest records, or the new ones.
type FullPolicy uint8

const (
	// DropOldest drops the oldest records, a segment at a time.
	DropOldest FullPolicy = iota
	// RefuseInput makes Append return ErrFull.
	RefuseInput
)

const (
	// MaxRecord is the length in bytes of the longest record Append accepts.
	MaxRecord = 1 << 20
	// MaxMark is the length in bytes of the longest mark Append accepts.
	MaxMark = 255
)

var (
	// ErrFull is returned by Append when the spool, or the disk, is full and
	// nothing may or can be dropped. The spool stays usable.
	ErrFull = errors.New("spool is full")
	// ErrTooLong is returned for a record over MaxRecord or a mark over MaxMark.
	ErrTooLong = errors.New("record too long for the spool")
	// ErrClosed is returned after Close by Append, by Reader.Next where it must read a
	// segment, and by Reader.Wait when no record is left.
	ErrClosed = errors.New("spool is closed")
)

// Options configures Open. Dir is required; a zero value of any other field means its default.
type Options struct {
	FS  fsys.FS // nil: the operating system's
	Dir string
	// MaxBytes bounds the size in bytes of the segments on disk, 1 GiB by default, at
	// least 1 MiB. The newest segment may have up to SegmentBytes preallocated beyond it.
	MaxBytes int64
	// SegmentBytes is the unit in which space is freed: by default a sixteenth of
	// MaxBytes, at most 16 MiB; at most a quarter of MaxBytes.
	SegmentBytes int64
	Full         FullPolicy
	// SyncInterval is how long a record may wait for its sync; 1 s by default.
	SyncInterval time.Duration
	// HotBytes is how many bytes of the newest records stay in memory for the reader,
	// 2 MiB by default.
	HotBytes int
	// BeforeAcked is called before the state file is told that more is acknowledged; nil: not.
	// It is called by one goroutine at a time, must not call the spool's methods but Away, and
	// must not wait for those who do.
	BeforeAcked func()
	Now         func() time.Time // nil: time.Now
	Logger      hclog.Logger     // nil: none
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("spool: no folder")
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxBytes < minMaxBytes {
		return o, fmt.Errorf("spool: %d bytes: want at least %d", o.MaxBytes, int64(minMaxBytes))
	}
	if o.Full > RefuseInput {
		return o, fmt.Errorf("spool: unknown policy %d", o.Full)
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = min(o.MaxBytes/16, 16<<20)
	}
	o.SegmentBytes = min(o.SegmentBytes, o.MaxBytes/4)
	if o.SyncInterval <= 0 {
		o.SyncInterval = time.Second
	}
	if o.HotBytes <= 0 {
		o.HotBytes = 2 << 20
	}
	if o.FS == nil {
		o.FS = fsys.OS
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	return o, nil
}
