package api

import (
	"bytes"
	"context"
	"fmt"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// tallyVersion is the version of a request that asks for a tally.
const tallyVersion = 3

// tallied checks what a request asks to have counted; nothing, most times.
func tallied(req *fleet.SearchRequest, q *query.Query) ([]query.Field, error) {
	if len(req.GetTally()) == 0 {
		return nil, nil
	}
	if len(q.Types)+len(q.Terms)+len(q.Filters) > 0 || q.HasSerial || req.GetLimit() > 0 || req.GetFollow() || req.GetCount() {
		return nil, fmt.Errorf("%w: a tally of more than times and nodes", ErrQuery)
	}
	var fields []query.Field
	for _, f := range req.GetTally() {
		if f >= uint32(query.NumIndexed) || len(fields) >= query.NumIndexed {
			return nil, fmt.Errorf("%w: a tally of field %d", ErrQuery, f)
		}
		fields = append(fields, query.Field(f))
	}
	return fields, nil
}

// tally answers with the events that are not counted, then with the counts.
func (s *Service) tally(ctx context.Context, q *query.Query, fields []query.Field, b *batcher) error {
	sum, err := s.Source.Tally(ctx, q, fields, func(ev *event.Event) error {
		own := *ev
		own.Node = bytes.Clone(ev.Node) // the batcher keeps it
		return b.add(&own)
	})
	if err != nil {
		return err
	}
	if err := b.send(); err != nil {
		return err
	}
	if sum.Any {
		b.resp = &fleet.SearchResponse{FirstMs: &sum.FirstMs, LastMs: &sum.LastMs}
		if err := b.send(); err != nil {
			return err
		}
	}
	for _, f := range fields {
		if err := sendValues(sum.Of(f), f, b); err != nil {
			return err
		}
	}
	return nil
}

func sendValues(vs *query.Values, f query.Field, b *batcher) (err error) {
	const size = 1 << 20
	var t *fleet.Tally
	send := func() {
		if t != nil && err == nil {
			b.resp = &fleet.SearchResponse{Tally: []*fleet.Tally{t}}
			err = b.send()
		}
		t = nil
	}
	vs.Each(func(v string, n int64) {
		if t == nil {
			t = &fleet.Tally{Field: uint32(f)}
		}
		t.Values = append(t.Values, v...)
		t.ValueBytes = append(t.ValueBytes, uint32(len(v)))
		t.Events = append(t.Events, n)
		if len(t.Values)+8*len(t.Events) >= size {
			send()
		}
	})
	send()
	return err
}

// Tally counts how many of the query's events have each value of the fields, and
// gives rest the events that have to be looked at; see store.Snapshot. ErrQuery is
// returned by a collector that cannot.
func (c *Client) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	req := toRequest(q, 0)
	req.Version = max(req.Version, tallyVersion)
	for _, f := range fields {
		req.Tally = append(req.Tally, uint32(f))
	}
	sum := query.NewTally(fields)
	var wrong error
	err := c.search(ctx, req, rest, func(r *fleet.SearchResponse) {
		if r.FirstMs != nil && r.LastMs != nil {
			sum.Time(r.GetFirstMs(), r.GetLastMs())
		}
		for _, t := range r.GetTally() {
			if err := takeValues(sum, t); err != nil {
				wrong = err
			}
		}
	})
	if err == nil {
		err = wrong
	}
	if err != nil {
		return nil, err
	}
	return sum, nil
}

func takeValues(sum *query.Tally, t *fleet.Tally) error {
	if t.GetField() >= uint32(query.NumIndexed) || len(t.GetValueBytes()) != len(t.GetEvents()) {
		return errResponse
	}
	vs := sum.Of(query.Field(t.GetField()))
	if vs == nil {
		return errResponse
	}
	rest := t.GetValues()
	for i, n := range t.GetValueBytes() {
		if uint64(n) > uint64(len(rest)) {
			return fmt.Errorf("%w: a value of %d bytes in %d", errResponse, n, len(rest))
		}
		vs.Add(rest[:n], t.GetEvents()[i])
		rest = rest[n:]
	}
	return nil
}
