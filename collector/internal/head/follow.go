package head

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

// ErrFollowers is returned when too many follow already.
var ErrFollowers = errors.New("too many searches follow already")

// Bounds of those who follow.
const (
	MaxFollowers   = 32
	followerBytes  = 8 << 20
	followerEvents = 1 << 16
	eventOverhead  = 100 // of an event in a queue, beside its text
)

// follower is a queue of events that somebody waits for. It does not hold up the
// head: what does not fit is counted and left out, and can be searched for.
type follower struct {
	filled wake.Signal // something was queued

	mu    sync.Mutex // guards what follows
	queue []live
	bytes int
	lost  uint64
}

// live is an event in a queue. Its text is shared and not changed.
type live struct {
	host    string
	text    []byte
	counted bool
	origin  store.Origin
}

// publish tells the followers of an event; h.mu is held.
func (h *Head) publish(host string, ev *event.Event) {
	l := live{host: host, origin: store.OriginOf(ev)}
	if from := ev.From; from != nil {
		own := *from // not to keep its stream
		l.origin.From = &own
	}
	l.text, l.counted = store.AppendText(nil, ev)
	for f := range h.followers {
		f.put(l)
	}
}

// put queues an event, or counts it where there is no room.
func (f *follower) put(l live) {
	f.mu.Lock()
	if size := len(l.text) + eventOverhead; f.bytes+size > followerBytes || len(f.queue) == followerEvents {
		f.lost++
	} else {
		f.queue = append(f.queue, l)
		f.bytes += size
	}
	f.mu.Unlock()
	f.filled.Set()
}

// drain empties the queue and returns what was in it.
func (f *follower) drain() (queue []live, lost uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	queue, lost = f.queue, f.lost
	f.queue, f.bytes, f.lost = nil, 0, 0
	return queue, lost
}

// Follow implements query.Source: it also ends when the head is closed. Each event
// comes once.
func (h *Head) Follow(ctx context.Context, q *query.Query, fn func(*event.Event) error, idle func(lost uint64) error) error {
	q, fn = h.also(q), q.Limited(fn)
	f := &follower{filled: wake.New()}
	err := h.begin(ctx, f, q, fn)
	defer h.end(f)
	var damaged error // which does not keep back what is to come
	if errors.Is(err, store.ErrDamaged) {
		damaged, err = err, nil
	}
	if err == nil {
		err = h.follow(ctx, f, q, fn, idle)
	}
	if errors.Is(err, query.ErrStop) {
		err = nil
	}
	return errors.Join(err, damaged)
}

// begin adds f to the followers and gives what was there at that moment:
// nothing becomes complete between the two. What is not complete then comes when it is.
func (h *Head) begin(ctx context.Context, f *follower, q *query.Query, fn func(*event.Event) error) (err error) {
	if q.StartMs != 0 {
		// Of an engine elsewhere nothing is known at first: it is waited for now, and not with the lock held, without which no record is taken.
		first, err := h.events.Snapshot(ctx)
		if err != nil {
			return fmt.Errorf("search the store: %w", err)
		}
		if err := first.Close(); err != nil {
			return err
		}
	}
	h.mu.Lock()
	if len(h.followers) >= MaxFollowers {
		h.mu.Unlock()
		return fmt.Errorf("%w: %d", ErrFollowers, MaxFollowers)
	}
	if h.followers == nil {
		h.followers = map[*follower]struct{}{}
	}
	h.followers[f] = struct{}{}
	if h.j != nil {
		h.j.Poke() // what comes from now on is wanted soon
	}
	if q.StartMs == 0 {
		h.mu.Unlock()
		return nil
	}
	// The snapshot is taken with the lock held, too, so that the table that is
	// being filled is not stored in between, with events of the queue in it.
	snap, err := h.events.Snapshot(ctx)
	if err != nil {
		h.mu.Unlock()
		return fmt.Errorf("search the store: %w", err)
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	now := h.present(q, false)
	h.mu.Unlock()
	refs := now.selectFrom(q, snap)
	stopped := false
	err = answer(ctx, q, snap, refs, func(ev *event.Event) error {
		err := fn(ev)
		stopped = errors.Is(err, query.ErrStop)
		return err
	})
	if err == nil && stopped {
		return query.ErrStop
	}
	return err
}

func (h *Head) end(f *follower) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.followers, f)
}

func (h *Head) follow(ctx context.Context, f *follower, q *query.Query, fn func(*event.Event) error, idle func(uint64) error) error {
	m := query.NewMatcher(q)
	if err := idle(0); err != nil {
		return err
	}
	for {
		queue, lost := f.drain()
		for i := range queue {
			l := &queue[i]
			if ev := store.ParseText(l.text, l.counted, []byte(l.host), l.origin); m.Match(ev) {
				if err := fn(ev); err != nil {
					return err
				}
			}
			l.text = nil
		}
		if len(queue) > 0 || lost > 0 {
			if err := idle(lost); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			continue
		}
		select {
		case <-f.filled:
		case <-ctx.Done():
			return ctx.Err()
		case <-h.closing:
			return ErrClosed
		}
	}
}
