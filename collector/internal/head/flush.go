package head

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// answerFlush processes what was acknowledged before Flush, cuts, and waits for flush. It
// is run's.
func (h *Head) answerFlush(reply chan error) {
	h.j.Poke()
	batches, err := h.j.Take(h.ctx, 0)
	if errors.Is(err, journal.ErrClosed) {
		err = nil // run finds out for itself
	}
	for _, b := range batches {
		err = errors.Join(err, h.process(b))
	}
	if err == nil {
		err = h.cut(true) // another partition may be begun now
	}
	if err == nil {
		select {
		case h.flushQ <- nil: // taken only when the batch before is stored
		case <-h.ctx.Done():
			err = ErrClosed
		}
	}
	reply <- err
}

// Flush has the store take all complete events of what was acknowledged so far,
// and waits for it.
func (h *Head) Flush(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case h.flushAsked <- reply:
	case <-h.ranEnd: // of many who ask then, flushAsked has room for some
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	h.j.Poke()
	select {
	case err := <-reply:
		return err
	case <-h.ranEnd:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cutOld cuts the table when its oldest event is old enough, or when only
// counters and the place in the journal moved.
func (h *Head) cutOld(now time.Time) error {
	age := now.Sub(h.firstAt)
	if h.firstAt.IsZero() || age >= 0 && age < h.opts.MaxAge {
		return nil
	}
	return h.cut(false)
}

// cut hands the table to flush and begins another. It waits while flush has one: then
// the journal's queue fills, and senders wait. With all, the store also gets the ledger's rows of
// running hours. It is run's, and mu is not held.
func (h *Head) cut(all bool) error {
	h.mu.Lock()
	if !h.replaying {
		h.sweep(h.opts.Now())
	}
	changed := h.changed || all && h.holdsRows()
	h.changed = false
	h.mu.Unlock()
	switch {
	case !h.firstAt.IsZero():
	case changed:
		h.day = store.DayOf(h.opts.Now())
	default:
		return nil
	}
	b := &store.Batch{
		ID: h.active.id, At: h.opts.Now(), Day: h.day, Events: h.active.table, LSN: h.lsn,
		Open: slices.Clone(h.open), // during replay: those not met again yet
	}
	open := map[*host]uint64{}
	for st := range h.openStreams {
		before := len(b.Open)
		b.Open = st.asm.OpenTags(b.Open)
		open[st.host] += uint64(len(b.Open) - before)
	}
	sortOpen(b)
	h.mu.Lock()
	h.active.reaches = h.reaches(open)
	for _, x := range h.dirty {
		x.dirty = false
		b.Hosts = append(b.Hosts, x.info())
	}
	h.dirty = h.dirty[:0]
	b.Forget, h.forgotten = h.forgotten, nil
	b.Ledger = h.takeLedger(all)
	h.active.ledger = b.Ledger
	h.waiting = append(h.waiting, h.active)
	h.active = generation{id: b.ID + 1, table: store.NewTable()}
	h.mu.Unlock()
	for _, kv := range h.j.Senders() {
		b.Senders = append(b.Senders, store.KV{Key: kv.Key, Value: kv.Value})
	}
	if h.opts.OnSenders != nil {
		h.opts.OnSenders(b.ID, b.Senders)
	}
	h.firstAt = time.Time{}
	select {
	case h.flushQ <- b:
		return nil
	case <-h.ctx.Done():
		return ErrClosed
	}
}

// sortOpen puts a batch's open records in order, each once.
func sortOpen(b *store.Batch) {
	slices.Sort(b.Open)
	b.Open = slices.Compact(b.Open)
}

// flush stores tables in order, each as often as it takes. It is a goroutine of its own.
func (h *Head) flush() {
	defer h.wg.Done()
	for b := range h.flushQ {
		if b == nil {
			continue
		}
		for attempt := 1; ; attempt++ {
			h.turned.Add(1)
			h.storing.Begin(time.Now()) // a clock that is set makes no disk hang
			err := h.storeTable(b)
			h.storing.End()
			if h.opts.OnStore != nil {
				h.opts.OnStore(err)
			}
			h.mu.Lock()
			h.stats.StoreError = err
			if err != nil {
				h.stats.StoreFailures++
			}
			h.mu.Unlock()
			if err == nil {
				break
			}
			if attempt == 1 || attempt%60 == 0 {
				h.opts.Logger.Error("the store does not take events; they stay in journal and memory", "error", err, "attempts", attempt)
			}
			select {
			case <-h.closing:
				h.fail(fmt.Errorf("store the last events (they are safe in the journal): %w", err))
				h.stop()
				return
			default:
			}
			select {
			case <-time.After(h.opts.RetryEvery):
			case <-h.closing: // one more attempt
			}
		}
	}
}

// fail has Close return an error.
func (h *Head) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = errors.Join(h.err, err)
}

func eventsOf(b *store.Batch) int {
	if b.Events == nil {
		return 0
	}
	return b.Events.Stats().Events
}

// storeTable makes one table durable and trims the journal.
func (h *Head) storeTable(b *store.Batch) error {
	// The store must not know an LSN that a power loss could take from the journal.
	if err := h.j.Sync(); err != nil {
		return err
	}
	if err := h.place.Append(context.Background(), b); err != nil {
		return fmt.Errorf("store %d events: %w", eventsOf(b), err)
	}
	h.mu.Lock()
	h.waiting = slices.DeleteFunc(h.waiting, func(g generation) bool {
		if g.id <= b.ID && h.opts.OnSenders != nil { // else nobody asks for Standings
			h.reach(g.id, g.reaches)
		}
		return g.id <= b.ID
	})
	h.stats.StoredID, h.stats.StoredLSN = b.ID, b.LSN
	h.importStored(b.ID)
	h.mu.Unlock()
	if err := h.j.Trim(b.LSN, b.Open); err != nil {
		// The events are stored; what stays is trimmed next time.
		h.opts.Logger.Warn("trimming the journal", "error", err)
	}
	return nil
}
