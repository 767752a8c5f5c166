package space

import (
	"context"
	"fmt"
	"time"

	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
)

// act does what each condition asks for. When a condition begins, its action is done, once;
// when it has been over for Calm, the log says so: a disk that is full, relieved by what the
// journal gives to the store, and full again with the next records, every few seconds, is one
// disk that is full. An action of rotate goes on for as long as the condition
// does. While the disk is full, the journal is emptied into the store. Only Begin and Run
// call it, so one goroutine at a time.
func (w *Watcher) act(ctx context.Context) {
	for c := range numConditions {
		w.mu.Lock()
		is, acted, limits := w.is[c], w.acted[c], w.limits
		over := false
		switch {
		case is:
			if !acted {
				w.actions[c]++
			}
			w.acted[c], w.ended[c] = true, time.Time{}
		case acted:
			if w.ended[c].IsZero() {
				w.ended[c] = time.Now()
			}
			if over = time.Since(w.ended[c]) >= w.cfg.Calm; over {
				w.acted[c], w.ended[c] = false, time.Time{}
			}
		}
		w.mu.Unlock()
		a := conditions[c].action(&limits)
		switch {
		case is && !acted:
			w.begin(c, a)
		case over:
			w.cfg.Log.Info("no longer: "+conditions[c].subject, w.figures()...)
		}
		if is && a.Do == conf.DoRotate {
			w.rotate(ctx, c)
		}
	}
	if w.full.Load() && w.cfg.Relieve != nil && ctx.Err() == nil {
		w.cfg.Relieve(ctx)
		w.measure()
	}
}

// MakeRoom drops the oldest day where there is a condition whose action is rotate. It is for who finds no room
// before Begin, and calls it again if that was not enough.
func (w *Watcher) MakeRoom(ctx context.Context) {
	w.measure()
	w.mu.Lock()
	is, limits, blind := w.is, w.limits, w.blind
	w.mu.Unlock()
	for c := range Error { // which is no matter of room
		if blind || !is[c] || conditions[c].action(&limits).Do != conf.DoRotate {
			continue
		}
		if _, err := w.cfg.DropOldest(ctx, conditions[c].key); err != nil {
			w.cfg.Log.Error("dropping the oldest day", "error", err)
		}
		return
	}
}

// begin does the action of a condition that has begun: it records what is wrong, suspends
// storing when the action says so, and hands the rest to Config.Do.
func (w *Watcher) begin(c Condition, a conf.Action) {
	words := conditions[c]
	w.mu.Lock()
	u, cause := w.usage, w.failing
	if c == Full {
		cause = w.noRoom
	} else if c != Error {
		cause = nil
	}
	w.mu.Unlock()
	text := fmt.Sprintf("%s: %d MiB of %d MiB are free", words.subject, u.Free>>20, u.Total>>20)
	if cause != nil {
		text = fmt.Sprintf("%s: %v", words.subject, cause)
	}
	if a.Do == conf.DoSuspend {
		text += "; storing is suspended until it is resumed (SIGUSR2)"
		w.suspended.Store(true)
	}
	if w.cfg.Record != nil && words.op != "" {
		w.cfg.Record(words.op)
	}
	if w.cfg.Record != nil && a.Do == conf.DoSuspend {
		w.cfg.Record("suspend-logging")
	}
	w.cfg.Do(a, action.Message{Condition: words.key, Subject: words.subject, Text: text, Level: words.level})
}

// rotate drops sealed days, the oldest first, until the condition is over, no sealed day is
// left, or dropping would not help (spare). Where only a write says that there is no room it drops one:
// whether that was enough, the next write tells.
func (w *Watcher) rotate(ctx context.Context, c Condition) {
	for ctx.Err() == nil && w.mayDrop(c) && !w.spare(ctx, c) {
		dropped, err := w.cfg.DropOldest(ctx, conditions[c].key)
		w.mu.Lock()
		logged := w.empty
		w.empty = err == nil && !dropped
		w.mu.Unlock()
		if err != nil {
			w.cfg.Log.Error("dropping the oldest day", "error", err)
			return
		}
		if !dropped {
			if !logged {
				w.cfg.Log.Error("there is no sealed day that may be dropped: "+conditions[c].subject, w.figures()...)
			}
			return
		}
		w.mu.Lock()
		w.noRoom, w.dropped = nil, time.Now()
		w.mu.Unlock()
		w.measure()
		w.mu.Lock()
		over := !w.is[c] || w.blind
		w.mu.Unlock()
		if over {
			return
		}
	}
}

// mayDrop reports whether a day is to be dropped for a condition as far as is known: that there is too little space, or
// that a write found no room, and not one that may have been before the day that was dropped last. Days that were
// dropped and are still read count as gone.
func (w *Watcher) mayDrop(c Condition) bool {
	soon := uint64(0)
	if w.cfg.Lingering != nil {
		soon = w.cfg.Lingering()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.blind && (c != Full || w.under(c, w.limit(c), 0)) {
		return w.under(c, w.limit(c), soon)
	}
	return c == Full && w.noRoom != nil && soon == 0 && time.Since(w.dropped) >= w.cfg.Every
}

// limit returns how many bytes are to be free by a condition; mu is held.
func (w *Watcher) limit(c Condition) uint64 {
	return [numConditions]uint64{
		Low: w.limits.SpaceLeft.Of(w.usage.Total), Admin: w.limits.AdminSpaceLeft.Of(w.usage.Total), Full: w.limits.reserve(w.usage.Total),
	}[c]
}

// spare reports whether days are to be spared: without Excess, the bytes that a journal has
// taken for want of a working store, the condition would not be there. First it has the
// journal emptied, which may make Excess smaller.
func (w *Watcher) spare(ctx context.Context, c Condition) bool {
	if w.cfg.Excess == nil || w.cfg.Excess() == 0 {
		return false
	}
	if w.cfg.Relieve != nil {
		w.cfg.Relieve(ctx)
		w.measure()
	}
	more := w.cfg.Excess()
	w.mu.Lock()
	spare := more > 0 && c != Error && !w.under(c, w.limit(c), more)
	logged := w.spared
	w.spared = spare
	w.mu.Unlock()
	if spare && !logged {
		w.cfg.Log.Error("no day is dropped: the journal has taken the space, see the warning about it; "+conditions[c].subject, append(w.figures(), "journal_excess_mib", more>>20)...)
	}
	return spare
}

// figures returns the disk's free space and size for a line of the log.
func (w *Watcher) figures() []any {
	w.mu.Lock()
	defer w.mu.Unlock()
	return []any{"free_mib", w.usage.Free >> 20, "size_mib", w.usage.Total >> 20}
}
