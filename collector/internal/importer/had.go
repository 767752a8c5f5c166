package importer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
)

const (
	// manyHosts is from how many hosts in a chunk on all hosts' events of its time are compared in one go.
	manyHosts = 16
	// apart is how far two stamps are from each other, in milliseconds, before what lies between them is not read; mostRuns is
	// how often that may be so in a chunk.
	apart    = 60 * 60 * 1000
	mostRuns = 64
	// mostLooks is how often the store is asked that lacks what was acknowledged shortly before.
	mostLooks = 12
)

// had returns how many of each of the records are stored: those of the present session's batches that may have records
// of the present file left out.
func (s *Session) had(ctx context.Context, lines []line) (map[key]uint32, error) {
	found := map[key]uint32{}
	if len(lines) == 0 {
		return found, nil
	}
	of, times := map[key]*host{}, map[*host][]int64{}
	for i := range lines {
		h := lines[i].host
		of[lines[i].key] = h
		times[h] = append(times[h], lines[i].rec.Ms())
	}
	if len(times) > manyHosts || s.cfg.Host != "" {
		var all []int64
		for _, ms := range times {
			all = append(all, ms...)
		}
		times = map[*host][]int64{nil: all}
	}
	for h, ms := range times {
		q := &query.Query{}
		switch {
		case s.cfg.Host != "": // it has others' names for events of its own only
			q.Nodes = []string{s.cfg.Host}
		case h != nil && h.name != "":
			q.Nodes = append(slices.Clone(h.alike), h.name)
		}
		for _, x := range runs(ms) {
			q.StartMs, q.EndMs = x.from, x.to
			err := s.look(ctx, q, found, func(k key) bool {
				o, ok := of[k]
				return ok && (h == nil || h == o) // a name may be a pattern, and finds others' events
			})
			if err != nil {
				return nil, fmt.Errorf("compare with what is stored: %w", err)
			}
		}
	}
	return found, nil
}

// span is a time from its first to its last millisecond.
type span struct{ from, to int64 }

// runs are the times of stamps without what lies between those that are far from each other: one odd stamp would have all
// history between it and the others read. The slice is sorted.
func runs(ms []int64) []span {
	slices.Sort(ms)
	cuts := make([]int, 0, 8) // a run ends before each
	for i := 1; i < len(ms); i++ {
		if ms[i]-ms[i-1] > apart {
			cuts = append(cuts, i)
		}
	}
	if len(cuts) >= mostRuns {
		slices.SortFunc(cuts, func(a, b int) int { return cmp.Compare(ms[b]-ms[b-1], ms[a]-ms[a-1]) })
		cuts = cuts[:mostRuns-1]
		slices.Sort(cuts)
	}
	out, first := make([]span, 0, len(cuts)+1), 0
	for _, i := range append(cuts, len(ms)) {
		out = append(out, span{ms[first], ms[i-1]})
		first = i
	}
	return out
}

// look adds to found how many records of the keys that are wanted a query finds. It asks again while the target lacks what was
// acknowledged shortly before: that would be stored twice.
func (s *Session) look(ctx context.Context, q *query.Query, found map[key]uint32, wanted func(key) bool) error {
	for looks := 1; ; looks++ {
		now, err := s.lookOnce(ctx, q, wanted)
		switch {
		case errors.Is(err, head.ErrBehind) && looks < mostLooks && ctx.Err() == nil:
			continue
		case errors.Is(err, head.ErrBehind):
			return fmt.Errorf("%w: what senders send is stored too slowly to be compared with: begin the import again later: it goes on where it was", err)
		case err != nil && !errors.Is(err, store.ErrDamaged): // what cannot be read is not stored, as far as can be told
			return err
		}
		for k, n := range now {
			found[k] += n
		}
		return nil
	}
}

// lookOnce counts the records of the keys that are wanted.
func (s *Session) lookOnce(ctx context.Context, q *query.Query, wanted func(key) bool) (map[key]uint32, error) {
	found := map[key]uint32{}
	var rec record.Record
	err := s.cfg.Target.Scan(ctx, q, func(ev *event.Event) error {
		if ev.Batch > s.since && (s.own[ev.Batch] || ev.Batch == s.number.Load()) { // numbered before it is found
			return nil
		}
		for i := range ev.Records {
			rec = ev.Records[i]
			if k := s.keys.of(ev.Node, &rec); wanted(k) {
				found[k]++
			}
		}
		return nil
	})
	return found, err
}
