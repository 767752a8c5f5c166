package head

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

// Where nobody waits for what was acknowledged, the head takes it after lingerLong: to be woken for
// each commit costs more than its records, where they are few. A search has it taken at once.
// Followers and plugins get events after lingerShort.
const (
	lingerLong  = time.Second
	lingerShort = 5 * time.Millisecond
)

// tickEvery is how often events of streams that fell silent are ended, and tables that are old are cut;
// idleEvery is how often it is looked for that where nothing is open.
const (
	tickEvery = time.Second
	idleEvery = 5 * time.Second
)

// run takes committed batches until the journal is closed.
func (h *Head) run() {
	defer h.wg.Done()
	defer close(h.ranEnd)
	defer close(h.flushQ)
	h.alarm.timer = time.AfterFunc(tickEvery, func() { h.alarm.over.Store(true); h.j.Poke() })
	defer h.alarm.timer.Stop()
	tick := h.opts.Now()
	for {
		h.turned.Add(1)
		batches, err := h.j.Take(h.ctx, h.linger())
		for _, b := range batches {
			if err := h.process(b); err != nil {
				return
			}
		}
		clear(batches)
		if errors.Is(err, journal.ErrClosed) {
			if err := h.cut(false); err != nil {
				h.opts.Logger.Warn("the last events stay in the journal", "error", err)
			}
			return
		}
		over := h.alarm.over.Swap(false)
		if now := h.opts.Now(); over || now.Sub(tick) >= tickEvery || now.Before(tick) {
			tick = now
			h.tick(now)
			if err := h.cutOld(now); err != nil {
				return
			}
			h.alarm.set(h.isIdle())
		} else if h.alarm.slow && !h.isIdle() {
			h.alarm.set(false)
		}
		h.answer()
		if h.ctx.Err() != nil {
			return
		}
	}
}

// answer does what was asked of run, for several may have been told by one Poke; of imports one, which waits
// for the store: what senders send goes between them. It is run's.
func (h *Head) answer() {
	for {
		select {
		case reply := <-h.flushAsked:
			h.answerFlush(reply)
		case x := <-h.importAsked:
			x.handed <- h.takeImport(x)
			h.j.Poke()
			return
		default:
			return
		}
	}
}

// alarm wakes run for the next tick.
type alarm struct {
	timer *time.Timer
	over  atomic.Bool
	slow  bool // it goes by idleEvery; run's
}

func (a *alarm) set(idle bool) {
	a.slow = idle
	if idle {
		a.timer.Reset(wake.In(idleEvery))
		return
	}
	a.timer.Reset(tickEvery)
}

// isIdle says that nothing is due within seconds. It is run's.
func (h *Head) isIdle() bool {
	return len(h.openStreams) == 0 && (h.firstAt.IsZero() || h.opts.MaxAge >= 4*idleEvery)
}

// linger is how long what was committed may wait for more: see Journal.Take.
func (h *Head) linger() time.Duration {
	if h.opts.OnEvent != nil && (h.opts.Awaited == nil || h.opts.Awaited()) {
		return lingerShort
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	switch {
	case h.advanced != nil: // a search waits for what is not ready yet: its Poke was too early for that
		return 0
	case len(h.followers) > 0:
		return lingerShort
	}
	return lingerLong
}
