package intake

import (
	"context"
	"errors"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Verdict is what a sender is to be told of a batch. The transport has the words.
type Verdict uint8

// The verdicts. After the first two the records are stored; after the others they are
// not, and their sender keeps them.
const (
	Stored    Verdict = iota
	StoredLow         // and space is low
	Full              // the disk is full, or has only its reserve left
	Suspended         // an administrator, or an action of his, has storing suspended
	Failed            // the disk fails
	numVerdicts
)

// refusals says of each verdict on records that are not stored under which reason they
// are counted, and what an administrator can do.
var refusals = [numVerdicts]struct{ reason, remedy string }{
	Full:      {metrics.RejectedFull, "make room on the disk of the store"},
	Suspended: {metrics.RejectedSuspended, "resume it with SIGUSR2 when the cause is gone"},
	Failed:    {metrics.RejectedError, "look at the disk of the store"},
}

func verdictOf(err error) Verdict {
	switch {
	case err == nil:
		return Stored
	case errors.Is(err, space.ErrSuspended):
		return Suspended
	case errors.Is(err, space.ErrFull), errors.Is(err, seglog.ErrNoSpace), fsys.NoRoom(err):
		return Full
	}
	return Failed
}

// Settle says what the sender is to be told of a batch that is over: of one that was
// submitted, after done(err), or after Submit has failed with err; one that has nothing
// but what is to be answered was never submitted, and err is nil. It counts the batch's
// records, as answered now, and so is called once. It doesn't block and may be called
// under a lock.
func (in *Intake) Settle(b *Batch, err error, now time.Time) Verdict {
	m := in.cfg.Metrics
	v := verdictOf(err)
	switch {
	case v != Stored:
		m.Rejected.Add(refusals[v].reason, b.records)
		if in.cfg.Refused != nil && b.records > 0 && !stops(err) {
			in.cfg.Refused(&b.Sender, b.records, v)
		}
		failure := err // not &err: that would be an allocation a batch
		in.refusing.Store(true)
		in.failure.Store(&failure)
		in.changed.Set()
	case b.records > 0:
		m.Records.Add(float64(b.records))
		m.Bytes.Add(float64(b.bytes))
		m.AckSeconds.Observe(now.Sub(b.Received).Seconds())
		if in.refusing.Load() && in.refusing.CompareAndSwap(true, false) {
			in.changed.Set()
		}
		if in.cfg.Space.IsLow() {
			v = StoredLow
		}
	}
	return v
}

// report tells the log and the watcher of the disk why records are not stored, and that
// they are again: what is the case by then, not each batch. The log says the second where it has said the first.
func (in *Intake) report() {
	told, said := false, false // the watcher, and the log, that records are not stored
	for last := false; !last; {
		select {
		case <-in.changed:
		case <-in.closing:
			last = true
		}
		if err := in.failure.Swap(nil); err != nil {
			told = true
			said = in.reportFailure(*err) || said
		}
		if told && !in.refusing.Load() {
			if said {
				in.cfg.Log.Info("records are stored again")
			}
			told, said = false, false
			in.cfg.Space.Outcome(nil)
		}
	}
}

// stops reports whether an error is a collector's that stops: no fault of the disk's.
func stops(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, journal.ErrClosed)
}

// reportFailure reports whether the log says it.
func (in *Intake) reportFailure(err error) bool {
	if !stops(err) {
		in.cfg.Space.Outcome(err)
	}
	ok, suppressed := in.refused.Allow()
	if ok {
		in.cfg.Log.Error("records are not stored, their senders are told to keep them: "+refusals[verdictOf(err)].remedy, "error", err, "suppressed", suppressed)
	}
	return ok
}
