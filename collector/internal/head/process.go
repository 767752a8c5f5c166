package head

import (
	"context"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// process adds a batch, of the journal's replay or fresh from the committer, to the
// active table, and cuts that where the day or its size asks for it. It is run's, and
// before that Open's.
func (h *Head) process(b *journal.Batch) error {
	if b.LSNs() == 0 || b.Last() <= h.storedLSN && len(h.open) == 0 {
		return nil
	}
	if b.Last() > h.storedLSN {
		if day := store.DayOf(b.Received); h.firstAt.IsZero() {
			h.day = day
		} else if day != h.day {
			// The day's partition gets what is known of its last hour.
			if err := h.cut(true); err != nil {
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
	h.advance(h.lsn)
	full := h.active.table.Stats().MemBytes >= h.opts.TableBytes
	h.mu.Unlock()
	if full {
		return h.cut(false)
	}
	return nil
}

// feed parses a batch's records and hands them to their hosts' assemblers. Of
// those the store has accounted for, only the ones on its list of open records
// are fed, and none is counted again. mu is held.
func (h *Head) feed(b *journal.Batch) {
	now := h.opts.Now()
	var (
		cur                       *host
		st                        *stream
		records, size, unparsable uint64
		run                       uint64 // LSN of the first record since st is st
	)
	sender, received := b.Sender.Event(), b.Received.UnixMilli()
	from, own := senderID(&b.Sender), b.Sender.Transport == event.TransportOwn
	leave := func() {
		if cur == nil {
			return
		}
		if records > 0 {
			h.countRecords(cur, b, records, size, unparsable, 0)
		}
		records, size, unparsable = 0, 0, 0
	}
	fed := false
	for i := range b.Records {
		lsn := b.First + uint64(i)
		old := lsn <= h.storedLSN
		if old && !h.wanted(lsn) {
			continue
		}
		fed = true
		r := &h.rec
		store.ParseRecord(r, b.Records[i].Raw, nil)
		x := h.hostOf(r.Node, b)
		claimed := r.Node != nil && x != h.mixed && !event.SameName(r.Node, x.raw)
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
			if claimed {
				h.mismatched(x, r.Node, b)
			}
			switch {
			case r.Err != nil:
				unparsable++
				h.stats.Unparsable++
			case r.Type == tables.DaemonErr:
				x.Lost = ledger.AddUp(x.Lost, ledger.LostRecords(r))
				h.countSeal(r)
			}
			if keepsLedger && r.IsRecord() && x != h.mixed {
				if own {
					h.entries(x).Own(r, from, received)
				} else {
					h.entries(x).Record(r, from, received)
				}
			}
		}
		r.Received = received
		if to := h.add(x, r, sender, lsn, now); to != st {
			h.leaveStream(st, b, run)
			st, run = to, lsn
		}
	}
	leave()
	h.leaveStream(st, b, run)
	if b.Last() > h.storedLSN {
		fed = true
		h.lsn = max(h.lsn, b.Last())
		for _, d := range b.Dropped {
			h.countRecords(h.hostOf([]byte(d.Node), b), b, 0, 0, 0, d.Count)
		}
	}
	if fed && h.firstAt.IsZero() {
		h.firstAt = now
	}
}

// leaveStream ends the feeding of a stream that had a batch's records from an LSN on. mu
// is held.
func (h *Head) leaveStream(st *stream, b *journal.Batch, from uint64) {
	if st != nil && len(b.Records) > 1 { // they share memory, of which an open event would keep all
		st.asm.Own(from)
	}
	h.recount(st)
}

// wanted says whether an LSN is on the list of those that were open at the start, and
// removes it. The list ascends, as replay does; what replay has passed is lost, and the
// journal has said so.
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

// advance says up to which LSN records can be searched, and wakes the searches that
// wait. mu is held.
func (h *Head) advance(lsn uint64) {
	h.processed = lsn
	if h.advanced != nil {
		close(h.advanced)
		h.advanced = nil
	}
}

// refreshWait bounds Refresh.
const refreshWait = 100 * time.Millisecond

// Refresh has what is acknowledged now counted for its hosts, for who asks about these. It waits for
// that a moment at most: what a disk that hangs keeps from the head is counted later.
func (h *Head) Refresh(ctx context.Context) {
	if h.j == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, refreshWait)
	defer cancel()
	_ = h.waitProcessed(ctx, h.j.Last()) // what there is, is the answer
}

// waitProcessed waits until the records up to an LSN can be searched: they are in
// memory, in events that are complete or open, or in the store. ErrClosed is
// returned when that will not be.
func (h *Head) waitProcessed(ctx context.Context, lsn uint64) error {
	for {
		h.mu.Lock()
		if h.processed >= lsn {
			h.mu.Unlock()
			return nil
		}
		if h.advanced == nil {
			h.advanced = make(chan struct{})
		}
		moved := h.advanced
		h.mu.Unlock()
		h.j.Poke() // it waits for more, where it has little to do
		select {
		case <-moved:
		case <-h.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
