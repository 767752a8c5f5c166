package head

import (
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// stream is what one sender sends under one host's name. The records of an event
// are those of one stream: whoever else uses the name can neither add to its
// events nor end them. Records from the far future are a stream of their own, for
// their time says that all others are late.
type stream struct {
	streamKey
	host    *host
	from    *event.Sender // of the latest record; events keep it, so it is replaced and never changed
	asm     *event.Assembler
	open    int         // memory of open events when last counted
	opened  int         // open events when last counted
	counted event.Stats // the assembler's, when last counted
}

// streamKey tells the streams of a host apart: by the name that the sender has proved,
// whatever its address and transport; by these where it has proved none.
type streamKey struct {
	sender event.Sender
	far    bool
}

func keyOf(sender event.Sender, far bool) streamKey {
	if sender.Host != "" {
		sender = event.Sender{Host: sender.Host}
	}
	return streamKey{sender, far}
}

// streamOf finds the host's stream. Nearly every host has one; that one stays, the
// others are dropped when none of their events is open: see recount.
func (h *Head) streamOf(x *host, k streamKey) *stream {
	if x.first != nil && x.first.streamKey == k {
		return x.first
	}
	if st := x.more[k]; st != nil {
		return st
	}
	if x.first != nil && x.first.asm.Len() == 0 && !k.far {
		x.first = nil // moved to another address
	}
	st := &stream{streamKey: k, host: x}
	st.from = &st.sender
	st.asm = event.NewAssembler(event.Config{
		Timeout: h.opts.EventTimeout, MaxEvents: h.opts.MaxOpenEventsHost, MaxBytes: h.opts.MaxOpenBytesHost, MaxAge: h.opts.MaxOpenAge, Apart: true, Pool: &h.pool,
	},
		func(ev *event.Event) { h.complete(st, ev) })
	if x.first == nil && !k.far {
		x.first = st
		return st
	}
	if x.more == nil {
		x.more = map[streamKey]*stream{}
	}
	x.more[k] = st
	return st
}

// add hands a record to its stream. mu is held, as for all that follows.
func (h *Head) add(x *host, r *record.Record, sender event.Sender, lsn uint64, now time.Time) *stream {
	far := r.Err == nil && event.IsFarFuture(r.Ms(), r.Received)
	st := h.streamOf(x, keyOf(sender, far))
	if sender.Host != "" && *st.from != sender {
		other := sender // not &sender: that would be an allocation a record
		st.from = &other
	}
	st.asm.Add(r, lsn, now)
	return st
}

// complete takes an event that a stream's assembler has finished.
func (h *Head) complete(st *stream, ev *event.Event) {
	x := st.host
	ev.From = st.from
	if x != h.mixed {
		ev.Node = x.raw // whatever its records claim
	}
	h.active.table.Add(x.Name, ev)
	if keepsLedger && x != h.mixed && len(ev.Records) > 0 && ev.Records[0].IsRecord() {
		h.entries(x).Event(ev.Ms, ev.Records[0].Received)
	}
	h.stats.Events++
	if st.far {
		h.stats.FarFuture++
	} else if ev.Ms > x.LastEventMs {
		x.LastEventMs = ev.Ms
		x.SetLag(ev.Records[0].Received - ev.Ms)
		h.touch(x) // the records may have been counted, and stored, in an earlier table
	}
	if h.opts.OnEvent != nil && !h.replaying {
		h.opts.OnEvent(x.Name, ev)
	}
	if len(h.followers) > 0 && !h.replaying {
		h.publish(x.Name, ev)
	}
	h.pool.Put(ev)
}

// tick ends the events of streams that fell silent.
func (h *Head) tick(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for st := range h.openStreams {
		st.asm.Tick(now)
		h.recount(st)
	}
	h.stats.OpenBytes, h.stats.OpenEvents = h.openBytes, h.opened
	h.logEarly(now)
	toStore := h.active.table.Stats().Events > 0 // their records came before the table was cut last
	if since := now.Sub(h.swept); since >= sweepEvery || since < 0 {
		h.sweep(now)
		toStore = toStore || h.changed
	}
	if toStore && h.firstAt.IsZero() { // to be stored, though no record comes
		h.firstAt, h.day = now, store.DayOf(now)
	}
}
