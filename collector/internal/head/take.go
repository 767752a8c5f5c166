package head

import (
	"context"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// take processes one batch, of the journal's replay or fresh from the committer,
// and cuts the table where the day or its size asks for it.
func (h *Head) take(b *journal.Batch) error {
	if b.LSNs() == 0 || b.Last() <= h.stored && len(h.open) == 0 {
		return nil
	}
	if b.Last() > h.stored {
		if day := store.DayOf(b.Received); h.firstAt.IsZero() {
			h.day = day
		} else if day != h.day {
			if err := h.cut(); err != nil {
				return err
			}
			h.day = day
		}
	} else if h.firstAt.IsZero() {
		h.day = store.DayOf(b.Received)
	}
	h.mu.Lock()
	h.feed(b)
	h.relieve()
	h.tookUpTo(h.lsn)
	full := h.active.table.Stats().MemBytes >= h.opts.TableBytes
	h.mu.Unlock()
	if full {
		return h.cut()
	}
	return nil
}

// feed parses a batch's records and hands them to their hosts' assemblers. Of
// those the store has accounted for, only the ones on its list of open records
// are fed, and none is counted again.
func (h *Head) feed(b *journal.Batch) {
	now := h.opts.Now()
	var (
		cur                       *host
		st                        *stream
		records, size, unparsable uint64
		run                       uint64 // LSN of the first record since st is st
	)
	sender, received := b.Sender.Event(), b.Received.UnixMilli()
	leave := func() {
		if cur == nil {
			return
		}
		if records > 0 {
			h.seen(cur, b, records, size, unparsable, 0)
		}
		records, size, unparsable = 0, 0, 0
	}
	fed := false
	for i := range b.Records {
		lsn := b.First + uint64(i)
		old := lsn <= h.stored
		if old && !h.wanted(lsn) {
			continue
		}
		fed = true
		r := &h.rec
		store.ParseRecord(r, b.Records[i].Raw, nil)
		x := h.hostOf(r.Node, b)
		if x != cur {
			leave()
			cur = x
		}
		switch {
		case r.Node != nil:
		case len(x.raw) > 0:
			r.Node = x.raw
		default:
			r.Node = store.NodeOf(&sender)
		}
		if h.replaying {
			h.stats.Replayed++
		}
		h.stats.Records++
		if !old {
			records++
			size += uint64(len(b.Records[i].Raw))
			if r.Err != nil {
				unparsable++
				h.stats.Unparsable++
			}
		}
		r.Received = received
		if to := h.add(x, r, sender, lsn, now); to != st {
			h.rest(st, b, run)
			st, run = to, lsn
		}
	}
	leave()
	h.rest(st, b, run)
	if b.Last() > h.stored {
		fed = true
		h.lsn = max(h.lsn, b.Last())
		for _, d := range b.Dropped {
			h.seen(h.hostOf([]byte(d.Node), b), b, 0, 0, 0, d.Count)
		}
	}
	if fed && h.firstAt.IsZero() {
		h.firstAt = now
	}
}

// rest leaves a stream that had records of a batch, those from an LSN on.
func (h *Head) rest(st *stream, b *journal.Batch, from uint64) {
	if st != nil && len(b.Records) > 1 { // they share memory, of which an open event would keep all
		st.asm.Own(from)
	}
	h.recount(st)
}

// wanted takes an LSN off the list of those that were open. The list ascends, as
// replay does; what replay has passed is lost, and the journal has said so.
func (h *Head) wanted(lsn uint64) bool {
	for len(h.open) > 0 && h.open[0] < lsn {
		h.open = h.open[1:]
	}
	if len(h.open) == 0 || h.open[0] != lsn {
		return false
	}
	h.open = h.open[1:]
	return true
}

// tookUpTo wakes the searches that wait; h.mu is held.
func (h *Head) tookUpTo(lsn uint64) {
	h.taken = lsn
	if h.moved != nil {
		close(h.moved)
		h.moved = nil
	}
}

// WaitTaken waits until the records up to an LSN can be searched: they are in
// memory or in the store, those of events that are still open apart. ErrClosed is
// returned when that will not be.
func (h *Head) WaitTaken(ctx context.Context, lsn uint64) error {
	for {
		h.mu.Lock()
		if h.taken >= lsn {
			h.mu.Unlock()
			return nil
		}
		if h.moved == nil {
			h.moved = make(chan struct{})
		}
		moved := h.moved
		h.mu.Unlock()
		select {
		case <-moved:
		case <-h.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
