package several

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

const (
	// pageEvents and pageBytes are how much of the merged answer is handed on at a time, at most; less where a collector
	// has to be waited for.
	pageEvents, pageBytes = 1024, 256 << 10
	// maxSame is how many events of one key are held to be compared with those of other collectors; of more, which only
	// lines that are no records are, each is given.
	maxSame = 4096
	// limitMore is how many events more than are wanted each collector is asked for: some may be joined.
	limitMore = 64
)

// errShort is returned by a merge when a collector had more events than it was asked for, and they are wanted.
var errShort = errors.New("more events are needed")

// stream is what one collector finds. A goroutine reads it, and is at most two parts ahead of the merge.
type stream struct {
	m     *member
	parts chan []store.Found
	err   error // how it ended, once parts is closed

	list  []store.Found // of the part that the merge is at, from its next event on
	ended bool
	n     uint64 // events that came
	last  int64  // the time of the last
}

// run reads the stream until its end or that of ctx.
func (st *stream) run(ctx context.Context, s *Source, q *query.Query) {
	defer close(st.parts)
	st.err = s.call(ctx, st.m, func(ctx context.Context) error {
		return st.m.src.ScanText(ctx, q, func(t query.Texts) error {
			list, err := found(t)
			if err != nil {
				return err
			}
			select {
			case st.parts <- list:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
}

// found returns texts with their keys, which do not travel. They are kept: nobody says that they are done with.
func found(t query.Texts) ([]store.Found, error) {
	own, ok := t.(interface{ Found() []store.Found })
	if !ok {
		return nil, fmt.Errorf("texts of another kind: %T", t)
	}
	if err := t.Open(); err != nil {
		return nil, err
	}
	list := own.Found()
	for i := range list {
		f := &list[i]
		if f.Ms == 0 && f.Serial == 0 {
			f.Ms, f.Serial, _ = store.Stamp(f.Text, f.Counted)
		}
	}
	return list, nil
}

// merge puts together what collectors find, in one goroutine.
type merge struct {
	s       *Source
	q       *query.Query
	asked   uint64 // how many events each collector was asked for; 0: all
	streams []*stream
	fn      func(query.Texts) error

	skip  uint64 // events that were given before
	n     uint64 // events that were given
	out   []store.Found
	bytes int
}

// scan merges what the collectors find of q and gives it to fn, but for the first skip events. Each is asked for at most
// so many events, 0 for all.
func (s *Source) scan(ctx context.Context, q *query.Query, most, skip uint64, fn func(query.Texts) error) (n uint64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	g := &merge{s: s, q: q, asked: most, skip: skip, fn: fn}
	own := *q
	own.Limit = most
	for _, m := range s.asked() {
		st := &stream{m: m, parts: make(chan []store.Found, 1)}
		g.streams = append(g.streams, st)
		reading.Go(func() { st.run(ctx, s, &own) })
	}
	if err = g.run(ctx); errors.Is(err, errShort) {
		if bad := g.flush(); bad != nil {
			err = bad
		}
	}
	return g.n, err
}

// run gives all events, in order.
func (g *merge) run(ctx context.Context) error {
	for {
		for _, st := range g.streams {
			if err := g.fill(ctx, st); err != nil {
				return err
			}
		}
		first, second := g.first()
		switch {
		case first == nil:
			return g.flush()
		case second != nil && second.list[0].Key == first.list[0].Key:
			lists, err := g.take(ctx, first.list[0].Key)
			if err != nil {
				return err
			}
			for _, f := range g.together(lists) {
				if err := g.give(f); err != nil {
					return err
				}
			}
		default: // all up to what another collector has
			for len(first.list) > 0 && (second == nil || g.before(first.list[0].Key, second.list[0].Key)) {
				if err := g.give(first.list[0]); err != nil {
					return err
				}
				first.list = first.list[1:]
			}
		}
	}
}

// fill waits until the stream has an event, or no more. What is ready meanwhile is handed on.
func (g *merge) fill(ctx context.Context, st *stream) error {
	for len(st.list) == 0 && !st.ended {
		var list []store.Found
		var more bool
		select {
		case list, more = <-st.parts:
		default:
			if err := g.flush(); err != nil {
				return err
			}
			select {
			case list, more = <-st.parts:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !more {
			if err := g.end(st); err != nil {
				return err
			}
		}
		if st.list = list; len(list) > 0 {
			st.n += uint64(len(list))
			st.last = list[len(list)-1].Ms
		}
	}
	return nil
}

// end notes how a stream ended.
func (g *merge) end(st *stream) error {
	st.ended = true
	switch {
	case st.err == nil && g.asked > 0 && st.n >= g.asked:
		return errShort
	case errors.Is(st.err, store.ErrDamaged):
		g.s.lacks(st.m, st.err)
	case st.err != nil:
		g.s.fail(st.m, Failure{Err: st.err, Part: st.n > 0, Reversed: g.q.Reverse, LastMs: st.last})
	}
	return nil
}

// first is the stream whose next event is the first of all, and second that whose is the first of the others; nil
// when they have ended.
func (g *merge) first() (first, second *stream) {
	for _, st := range g.streams {
		switch {
		case len(st.list) == 0:
		case first == nil || g.before(st.list[0].Key, first.list[0].Key):
			first, second = st, first
		case second == nil || g.before(st.list[0].Key, second.list[0].Key):
			second = st
		}
	}
	return first, second
}

// before is the order of the answer.
func (g *merge) before(a, b query.Key) bool {
	if g.q.Reverse {
		return a.Compare(b) > 0
	}
	return a.Compare(b) < 0
}

// take takes the events of a key from all streams.
func (g *merge) take(ctx context.Context, k query.Key) (lists [][]store.Found, err error) {
	for _, st := range g.streams {
		var list []store.Found
		for len(st.list) > 0 && st.list[0].Key == k && len(list) < maxSame {
			list, st.list = append(list, st.list[0]), st.list[1:]
			if err := g.fill(ctx, st); err != nil {
				return nil, err
			}
		}
		if len(list) > 0 {
			lists = append(lists, list)
		}
	}
	return lists, nil
}

// together is store.Joined, in the order of the answer.
func (g *merge) together(lists [][]store.Found) []store.Found {
	join := store.Joined
	if g.s.apart {
		if k := lists[0][0].Key; k.Ms == 0 && k.Serial == 0 {
			return slices.Concat(lists...) // nothing tells lines that are no records from others that are the same
		}
		join = store.JoinedBySender
	}
	if !g.q.Reverse {
		return join(lists)
	}
	for _, list := range lists {
		slices.Reverse(list)
	}
	out := slices.Clone(join(lists))
	slices.Reverse(out)
	return out
}

// give adds an event to what is handed on; query.ErrStop once enough were.
func (g *merge) give(f store.Found) error {
	if g.n++; g.n <= g.skip {
		return nil
	}
	g.out = append(g.out, f)
	g.bytes += len(f.Text)
	full := g.q.Limit > 0 && g.n >= g.q.Limit
	if full || len(g.out) >= pageEvents || g.bytes >= pageBytes {
		if err := g.flush(); err != nil {
			return err
		}
	}
	if full {
		return query.ErrStop
	}
	return nil
}

// flush hands on what is ready.
func (g *merge) flush() error {
	if len(g.out) == 0 {
		return nil
	}
	out := &store.Texts{List: g.out}
	g.out, g.bytes = nil, 0
	return g.fn(out)
}
