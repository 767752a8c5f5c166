package journal

import (
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Flush says when a batch counts as stored. The words are auditd.conf's.
type Flush string

// The flush modes. Data is Sync here: there is no metadata to save.
const (
	FlushSync             Flush = "sync"
	FlushData             Flush = "data"
	FlushIncremental      Flush = "incremental"
	FlushIncrementalAsync Flush = "incremental_async"
	FlushNone             Flush = "none"
)

// Valid says whether f is one of the modes.
func (f Flush) Valid() bool {
	switch f {
	case FlushSync, FlushData, FlushIncremental, FlushIncrementalAsync, FlushNone:
		return true
	}
	return false
}

// Options of a journal.
type Options struct {
	FS     fsys.FS // fsys.OS when nil
	Dir    string
	Flush  Flush // FlushSync when empty
	Freq   int   // records between syncs of the incremental modes; 50 when 0
	Logger hclog.Logger
	Now    func() time.Time

	// ID is the store's, Known what Changed was last told of the segments; see
	// seglog.Options. Zero for a journal of which nobody keeps a list.
	ID      seglog.ID
	Known   seglog.Known
	Changed func(seglog.Known, []seglog.Damage) error

	// QueueBytes bounds what is submitted and not yet taken; 16 MiB when 0.
	QueueBytes int64
	// SegmentBytes is when a segment is full; seglog's default when 0.
	SegmentBytes int64
	// MaxSenders bounds the addresses remembered for resend detection; 20,000 when 0.
	MaxSenders int
	// OnSync, when set, is told how long each sync of the commit path took.
	OnSync func(time.Duration)
}

func (o *Options) defaults() error {
	if o.FS == nil {
		o.FS = fsys.OS
	}
	if o.Flush == "" {
		o.Flush = FlushSync
	}
	if !o.Flush.Valid() {
		return fmt.Errorf("flush = %q: it is one of sync, data, incremental, incremental_async, none", o.Flush)
	}
	if o.Freq <= 0 {
		o.Freq = 50
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = 16 << 20
	}
	if o.MaxSenders <= 0 {
		o.MaxSenders = 20000
	}
	return nil
}
