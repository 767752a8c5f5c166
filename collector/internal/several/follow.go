package several

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

const (
	// againAfter is how long a follower waits before it asks a collector again that has failed, and lookBack from how
	// long before the newest event that it had of it.
	againAfter, lookBack = 3 * time.Second, time.Minute
	// quietAfter is how long the others are kept back for the next event of a collector.
	quietAfter = 200 * time.Millisecond
)

// follower follows one collector, again after each failure. Its goroutine is at most one event ahead of what was used.
type follower struct {
	m      *member
	in     chan<- news
	used   chan struct{}
	newest int64 // of its events, in ms since 1970, and no later than it came: some host's clock may be years ahead

	// The rest is following's.
	head  *event.Event
	from  int64     // the answer that head is of
	since time.Time // when it was asked for another
}

// news is what comes of a follower: an event, or how many were left out.
type news struct {
	of   *follower
	ev   *event.Event
	from int64
	lost uint64
}

// Follow implements query.Source. Events come in order where collectors have some at the same time. A collector that fails
// is asked again until ctx ends, and Missing has it nevertheless. An event that two collectors have comes once where less
// than 65,536 others lie between; one of which each has a part comes as two.
func (s *Source) Follow(ctx context.Context, q *query.Query, fn func(*event.Event) error, idle func(lost uint64) error) error {
	if q.Batches || q.AfterBatch != 0 {
		return ErrOne
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	in := make(chan news)
	g := &following{fn: q.Limited(fn), idle: idle}
	ended := make(chan struct{})
	for _, m := range s.members { // also of one that was not reached yet
		f := &follower{m: m, in: in, used: make(chan struct{}, 1), newest: q.StartMs, since: time.Now()}
		if q.StartMs == 0 {
			f.newest = time.Now().UnixMilli()
		}
		g.list = append(g.list, f)
		running.Go(func() { f.run(ctx, s, *q) })
	}
	go func() {
		running.Wait()
		close(ended)
	}()
	err := g.run(ctx, in, ended)
	switch {
	case errors.Is(err, query.ErrStop):
		return nil
	case err != nil:
		return err
	}
	return s.none()
}

// run follows the collector until ctx ends. A store that no collector has is not live: it ends.
func (f *follower) run(ctx context.Context, s *Source, q query.Query) {
	q.Limit = 0
	start := q.StartMs
	src, again := f.m.src, false
	if src == nil {
		f.tellFailed(ctx)
	}
	for ctx.Err() == nil {
		if src != nil {
			err := f.follow(ctx, s, src, &q)
			if again {
				err = errors.Join(err, src.Close())
			}
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				err = errEnded
			}
			s.fail(f.m, Failure{Err: err, Part: true, LastMs: f.newest})
			f.tellFailed(ctx)
			if errors.Is(err, query.ErrNotLive) || f.m.open == nil {
				return
			}
		}
		for src = nil; src == nil; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(againAfter):
			}
			src, _, _ = reach(ctx, Member{Open: f.m.open}, s.wait) // why it fails was said
		}
		again = true
		q.StartMs = max(1, start, f.newest-lookBack.Milliseconds())
	}
	if again && src != nil {
		_ = src.Close() // nothing of it is wanted any more
	}
}

// tellFailed has whoever gets the events look for what they lack.
func (f *follower) tellFailed(ctx context.Context) { _ = f.tell(ctx, ctx, news{of: f}) } // it fails at ctx's end only

// errEnded is returned for a collector that ends its answer to who follows.
var errEnded = errors.New("it has ended the answer")

// follow makes one call.
func (f *follower) follow(ctx context.Context, s *Source, src Collector, q *query.Query) error {
	from := s.answers.Add(1)
	return s.call(ctx, &member{src: src}, func(call context.Context) error {
		return src.Follow(call, q, func(ev *event.Event) error {
			at := min(ev.Ms, time.Now().UnixMilli())
			if err := f.tell(ctx, call, news{of: f, ev: ev, from: from}); err != nil {
				return err
			}
			f.newest = max(f.newest, at)
			return nil
		}, func(lost uint64) error {
			if lost == 0 {
				return nil
			}
			return f.tell(ctx, call, news{of: f, lost: lost})
		})
	})
}

// tell hands on news, unless the call ends, and waits until they are used, also where the call ends meanwhile: what the next one has must not
// take their place.
func (f *follower) tell(ctx, call context.Context, n news) error {
	select {
	case f.in <- n:
	case <-call.Done():
		return call.Err()
	}
	select {
	case <-f.used:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// following puts together what followers get, in one goroutine.
type following struct {
	list   []*follower
	fn     func(*event.Event) error
	idle   func(lost uint64) error
	recent Recent
}

// run gives events until ctx ends, or all followers have.
func (g *following) run(ctx context.Context, in <-chan news, ended <-chan struct{}) error {
	look := time.NewTicker(quietAfter / 2)
	defer look.Stop()
	for {
		select {
		case n := <-in:
			if n.ev == nil {
				n.of.use()
				if err := g.idle(n.lost); err != nil {
					return err
				}
				continue
			}
			n.of.head, n.of.from = n.ev, n.from
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			return ctx.Err()
		}
		if err := g.give(); err != nil {
			return err
		}
	}
}

// use has the follower go on.
func (f *follower) use() {
	f.since = time.Now()
	f.used <- struct{}{}
}

// give gives the first event, if no collector has to be waited for.
func (g *following) give() error {
	var first *follower
	for _, f := range g.list {
		switch {
		case f.head == nil && time.Since(f.since) < quietAfter:
			return nil
		case f.head != nil && (first == nil || query.KeyOf(f.head).Compare(query.KeyOf(first.head)) < 0):
			first = f
		}
	}
	if first == nil {
		return nil
	}
	ev := first.head
	first.head = nil
	again := g.recent.Has(ev, first.from)
	first.use()
	if again {
		return nil
	}
	if err := g.fn(ev); err != nil {
		return err
	}
	return g.idle(0)
}
