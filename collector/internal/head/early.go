package head

import (
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
)

// Early says which limit ended an event before it was complete.
type Early int

// The limits: of Options, in this order.
const (
	EarlyAge Early = iota
	EarlyEventsHost
	EarlyBytesHost
	EarlyEvents
	EarlyBytes
	NumEarly
)

// String is the key of the limit in a configuration.
func (e Early) String() string {
	return [...]string{"max_open_age", "max_open_events_per_host", "max_open_bytes_per_host", "max_open_events", "max_open_bytes"}[e]
}

// Evicted is how many events were ended early in all.
func (s *Stats) Evicted() (n uint64) {
	for _, k := range s.Early {
		n += k
	}
	return n
}

// earlyLogged is what the log knows of events that were ended early.
type earlyLogged struct {
	at    time.Time
	early [NumEarly]uint64
	by    *stream // of the last one
}

// earlyEvery is the least time between two lines about them.
const earlyEvery = time.Minute

// streamCost is what a stream takes in memory that is there only for its open events.
const streamCost = 1024

// idleStreams are those that the set of streams with something open may have room for
// while there are none: a map does not give back what it once needed.
const idleStreams = 64

// recount keeps the sums of what is open, the set of streams that have something open,
// and what was ended early. A stream with nothing open may be dropped: it is not used
// after that. Head.mu is held.
func (h *Head) recount(st *stream) {
	if st == nil {
		return
	}
	now, was := st.asm.Stats(), st.counted
	st.counted = now
	h.countEarly(st, EarlyAge, now.Aged-was.Aged)
	h.countEarly(st, EarlyEventsHost, now.Evicted-was.Evicted)
	h.countEarly(st, EarlyBytesHost, now.Oversize-was.Oversize)
	bytes, events := st.asm.Bytes(), st.asm.Len()
	extra := st.host.first != st
	if extra && events > 0 {
		bytes += streamCost
	}
	h.openBytes += bytes - st.open
	h.opened += events - st.opened
	st.open, st.opened = bytes, events
	if events > 0 {
		h.openStreams[st] = struct{}{}
		h.openPeak = max(h.openPeak, len(h.openStreams))
		return
	}
	delete(h.openStreams, st)
	if len(h.openStreams) == 0 && h.openPeak > idleStreams {
		h.openStreams, h.openPeak = map[*stream]struct{}{}, 0
	}
	if extra {
		if delete(st.host.more, st.streamKey); len(st.host.more) == 0 {
			st.host.more = nil
		}
	}
}

// countEarly counts events of a stream that were ended early. mu is held.
func (h *Head) countEarly(st *stream, why Early, n uint64) {
	if n > 0 {
		h.stats.Early[why] += n
		if st.host != h.mixed {
			at := h.opts.Now().UnixMilli()
			h.entries(st.host).Happened(ledger.CutShort, at, at, n)
		}
		h.earlyLogged.by = st
	}
}

// relieve ends the open events of the streams with the most of them, when all together
// are out of bounds: until an eighth is free, since it looks at all streams.
func (h *Head) relieve() {
	why, of, sum, most := EarlyBytes, func(st *stream) int { return st.open }, &h.openBytes, h.opts.MaxOpenBytes
	if h.openBytes <= most {
		why, of, sum, most = EarlyEvents, func(st *stream) int { return st.opened }, &h.opened, h.opts.MaxOpenEvents
	}
	if *sum <= most {
		return
	}
	streams := make([]*stream, 0, len(h.openStreams))
	for st := range h.openStreams {
		streams = append(streams, st)
	}
	slices.SortFunc(streams, func(x, y *stream) int { return of(y) - of(x) })
	for _, st := range streams {
		if *sum <= most-most/8 {
			return
		}
		h.countEarly(st, why, uint64(st.asm.Len()))
		st.asm.Flush()
		h.recount(st)
	}
}

// logEarly logs that events were ended early, at most once a minute. Head.mu is held.
func (h *Head) logEarly(now time.Time) {
	if since := now.Sub(h.earlyLogged.at); h.earlyLogged.early == h.stats.Early || since >= 0 && since < earlyEvery {
		return
	}
	args := []any{"host", clip(h.earlyLogged.by.host.Name), "sender", h.earlyLogged.by.from.Addr}
	for e := range NumEarly {
		if n := h.stats.Early[e] - h.earlyLogged.early[e]; n > 0 {
			args = append(args, e.String(), n)
		}
	}
	h.earlyLogged.at, h.earlyLogged.early = now, h.stats.Early
	h.opts.Logger.Warn("events were ended before they were complete; what comes for them later is another event: a sender keeps them open, or the limits that are named are too low", args...)
}
