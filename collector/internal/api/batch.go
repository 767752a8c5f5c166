package api

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

const (
	// maxSearches bounds those that run at a time, and with them the memory that
	// answers on their way take.
	maxSearches = 32
	// mayStall is how long a caller may take nothing when another wants its place,
	// and maxStall how long in any case: a search that stands still keeps the files
	// of days that are dropped meanwhile.
	mayStall = time.Minute
	maxStall = 30 * time.Minute
)

// errSlow is why a search ends whose answer nobody takes.
var errSlow = errors.New("the search was ended: its answer was not taken")

// batcher packs events into responses.
type batcher struct {
	ctx     context.Context
	end     context.CancelCauseFunc
	stream  fleet.Query_SearchServer
	limit   uint64
	origins bool // who sent events, and when they came, is sent as well
	batches bool // and so is the batch of each
	count   bool // how many there are is all that is sent
	found   uint64
	lost    uint64 // not told yet
	done    bool
	last    time.Time
	resp    *fleet.SearchResponse
	// senders are those of resp, with their places in it.
	senders map[event.Sender]uint32

	mu    sync.Mutex
	since time.Time // when the response on its way was handed over; zero without one
}

func (b *batcher) add(ev *event.Event) error {
	b.found++
	if b.count {
		return b.more()
	}
	if b.resp == nil {
		b.resp = &fleet.SearchResponse{}
	}
	r := b.resp
	for i := range ev.Records {
		raw := ev.Records[i].Raw
		r.Raw = append(r.Raw, raw...)
		r.RecordBytes = append(r.RecordBytes, uint32(len(raw)))
	}
	out := &fleet.Event{Records: uint32(len(ev.Records)), Ms: ev.Ms, Serial: ev.Serial, Node: ev.Node}
	b.origin(out, ev)
	if b.batches {
		out.Batch = ev.Batch
	}
	r.Events = append(r.Events, out)
	if err := b.more(); err != nil {
		return err
	}
	if len(r.Raw) < batchBytes && len(r.Events) < batchEvents && time.Since(b.last) < batchDelay {
		return nil
	}
	return b.send()
}

// origin adds who sent an event and when it was received.
func (b *batcher) origin(out *fleet.Event, ev *event.Event) {
	if !b.origins {
		return
	}
	if from := ev.From; from != nil {
		if len(b.resp.Senders) == 0 {
			b.senders = map[event.Sender]uint32{}
		}
		n := b.senders[*from]
		if n == 0 {
			b.resp.Senders = append(b.resp.Senders, toSender(from))
			n = uint32(len(b.resp.Senders))
			b.senders[*from] = n
		}
		out.Sender = n
	}
	if len(ev.Records) == 0 {
		return
	}
	out.ReceivedMs = ev.Records[0].Received
	for i := 1; i < len(ev.Records); i++ {
		gap := ev.Records[i].Received - ev.Records[i-1].Received
		if gap != 0 && out.LaterMs == nil {
			out.LaterMs = make([]int64, i-1, len(ev.Records)-1)
		}
		if out.LaterMs != nil {
			out.LaterMs = append(out.LaterMs, gap)
		}
	}
}

// more is query.ErrStop when that was the last event wanted.
func (b *batcher) more() error {
	if b.limit > 0 && b.found >= b.limit {
		return query.ErrStop
	}
	return nil
}

// send hands over what there is, if anything, and waits until it is taken.
func (b *batcher) send() error {
	r := b.resp
	b.resp, b.last = nil, time.Now()
	if b.lost > 0 || b.count && b.done {
		if r == nil {
			r = &fleet.SearchResponse{}
		}
		r.Lost, b.lost = b.lost, 0
		if b.count {
			r.Found = b.found
		}
	}
	if r == nil {
		return nil
	}
	b.sending(time.Now())
	defer b.sending(time.Time{})
	// Send waits for the caller and cannot be told to stop; that the search
	// returns ends it, too.
	sent := make(chan error, 1)
	go func() { sent <- b.stream.Send(r) }()
	stall := time.NewTimer(maxStall)
	defer stall.Stop()
	select {
	case err := <-sent:
		return err
	case <-stall.C:
		b.end(fmt.Errorf("%w for %v", errSlow, maxStall))
	case <-b.ctx.Done():
	}
	return context.Cause(b.ctx)
}

func (b *batcher) sending(since time.Time) {
	b.mu.Lock()
	b.since = since
	b.mu.Unlock()
}

// searches are those running.
type searches struct {
	mu  sync.Mutex
	all map[*batcher]struct{}
}

// enter takes a place, that of the search longest without a reader if need be.
func (s *searches) enter(b *batcher) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[*batcher]struct{}{}
	}
	if len(s.all) >= maxSearches {
		var slowest *batcher
		at := time.Now().Add(-mayStall)
		for other := range s.all {
			other.mu.Lock()
			if since := other.since; !since.IsZero() && since.Before(at) {
				slowest, at = other, since
			}
			other.mu.Unlock()
		}
		if slowest == nil {
			return fmt.Errorf("%d searches run already: try again", maxSearches)
		}
		slowest.end(fmt.Errorf("%w for %v, and others wait", errSlow, time.Since(at).Round(time.Second)))
		delete(s.all, slowest)
	}
	s.all[b] = struct{}{}
	return nil
}

func (s *searches) leave(b *batcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, b)
}
