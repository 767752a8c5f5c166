package search

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// newEvents is a search of a store that continues an earlier one.
type newEvents struct {
	o     *Options
	src   query.Source
	w     output.Writer
	cp    *storeCheckpoint
	last  uint64 // stored when it began
	found uint64
	wrote error // why a result could not be written
}

// FindNew is Find with --checkpoint. It writes each event that no earlier search with the
// same file wrote, and records in the file what it wrote. If the checkpoint itself is the
// problem, the error is a *CheckpointError.
//
// FindNew replaces the file after all results are written, even if the search failed
// midway: events that were written are not written again, and the others are written next
// time.
func FindNew(ctx context.Context, o *Options, src query.Source, w output.Writer) (found uint64, err error) {
	cp, err := loadStoreCheckpoint(o.Checkpoint)
	if err != nil {
		return 0, err
	}
	n := &newEvents{o: o, src: src, w: w, cp: cp}
	if err := n.begin(ctx); err != nil {
		return 0, err
	}
	switch {
	case o.JustOne:
		err = n.one(ctx)
	default:
		if err = n.scan(ctx, 0); err == nil {
			cp.passed(n.last)
		}
	}
	if n.wrote = closeWriter(w, n.wrote); n.wrote != nil {
		return n.found, n.wrote
	}
	return n.found, errors.Join(err, cp.save(o.Checkpoint))
}

// begin looks whether the checkpoint is of this store.
func (n *newEvents) begin(ctx context.Context) error {
	cp := n.cp
	about, err := n.src.About(ctx)
	if err != nil {
		return err
	}
	id, last := about.Store, about.Batch
	n.last = last
	if n.o.CheckpointTime {
		from := cp.youngest
		if cp.old.only {
			from = cp.old.youngest()
		}
		*cp = storeCheckpoint{youngest: from, printed: printedEvents{}}
		if n.o.Query.StartMs < from {
			n.o.Query.StartMs = from
		}
	}
	switch {
	case cp.store != "" && id != "" && cp.store != id:
		return &CheckpointError{codeInvalid, fmt.Sprintf("%s speaks of the store %s, and this one is %s; --start checkpoint goes on by its time", n.o.Checkpoint, cp.store, id)}
	case max(cp.batch, cp.drained) > last:
		return &CheckpointError{codeMissing, fmt.Sprintf("Corrupted checkpoint file. It speaks of batch %d, and the store's last one is %d: "+
			"an older copy of the store? --start checkpoint goes on by its time", max(cp.batch, cp.drained), last)}
	}
	if id != "" {
		cp.store = id
	}
	if cp.old.only {
		return n.renew(ctx)
	}
	return nil
}

// renew takes over the checkpoint of an old version. What its places say holds for what
// is there now, and not for what comes later with an earlier time: so of what is not
// stored yet, the events themselves are remembered.
func (n *newEvents) renew(ctx context.Context) error {
	cp := n.cp
	cp.old.only, cp.drained, cp.youngest = false, n.last, cp.old.youngest()
	q := n.query()
	q.AfterBatch = n.last
	return n.src.Scan(ctx, &q, func(ev *event.Event) error {
		if ev.Batch > n.last && cp.old.printed(ev) {
			cp.printed.add(digestOf(ev), printedEvent{batch: ev.Batch, ms: ev.Ms})
		}
		return nil
	})
}

func (n *newEvents) query() query.Query {
	q := n.o.Query
	q.Origin, q.Batches, q.AfterBatch = true, true, n.cp.batch
	q.Limit = 0 // of --just-one: of those that are new
	return q
}

// isOfCheckpoint reports whether an event is the collector's record of a search with --checkpoint.
// Such a search leaves them out unless it asks for hosts or types: each would find the one before
// it, and always something new.
func (n *newEvents) isOfCheckpoint(ev *event.Event) bool {
	return ev.From != nil && ev.From.Transport == event.TransportOwn && len(n.o.Query.Types)+len(n.o.Query.Nodes) == 0 &&
		len(ev.Records) == 1 && bytes.Contains(ev.Records[0].Raw, []byte(" msg='op=search-new "))
}

// one writes the first new event: of what is stored, and where there is none, of what
// is not. A store with years of events is gone through by their times, and no run has
// to pass by all that the runs before it wrote.
func (n *newEvents) one(ctx context.Context) error {
	for {
		if n.cp.drained == 0 {
			if n.last <= n.cp.batch {
				break
			}
			n.cp.drained, n.cp.before = n.last, 0
		}
		if err := n.scan(ctx, n.cp.drained); err != nil || n.found > 0 {
			return err
		}
		n.cp.passed(n.cp.drained)
	}
	return n.scan(ctx, 0)
}

// scan writes what is new, with --just-one the first of it; where upTo is not 0, only
// of batches up to that one.
func (n *newEvents) scan(ctx context.Context, upTo uint64) error {
	q := n.query()
	if upTo > 0 {
		q.StartMs = max(q.StartMs, n.cp.before)
	}
	left := n.cp.printed // printed before, and not met in this scan
	met := printedEvents{}
	err := n.src.Scan(ctx, &q, func(ev *event.Event) error {
		if upTo > 0 && ev.Batch > upTo || n.cp.done(ev) || n.isOfCheckpoint(ev) {
			return nil
		}
		d := digestOf(ev)
		e := printedEvent{ev.Batch, ev.Ms, ev.Batch <= n.last}
		if left.take(d, ev.Batch) {
			met.add(d, e)
			return nil
		}
		if n.wrote = written(n.w.Event(ev)); n.wrote != nil {
			return n.wrote
		}
		n.found++
		met.add(d, e)
		if !isFarFuture(ev) {
			n.cp.youngest = max(n.cp.youngest, ev.Ms)
		}
		if !n.o.JustOne {
			return nil
		}
		if upTo > 0 {
			n.cp.before = ev.Ms
		}
		return query.ErrStop
	})
	left.merge(met)
	n.cp.drainedTo(n.cp.before)
	return err
}
