package several

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

const (
	hourMs = 60 * 60 * 1000
	// maxNames is how many hosts a question names; where it is about more, it is about all.
	maxNames = 1000
	// maxSpans is how many times are asked about apart.
	maxSpans = 32
)

// Tally implements query.Source. Each collector counts what only it can have: what two of them may have is
// read and merged, and given to rest. These are the events of hosts that several collectors know, in hours
// of which several have any. Errors where fields are asked for and a collector cannot count: store.ErrDamaged, because
// its store is, and api.ErrQuery, because it is older. What it has, Scan gives.
func (s *Source) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	sum := query.NewTally(fields, q.Memory)
	if q.AfterBatch != 0 {
		return sum, ErrOne
	}
	if len(fields) == 0 {
		rest = func(*event.Event) error {
			sum.Events++
			return nil
		}
	}
	c := &counting{s: s, q: q, fields: fields, sum: sum, rest: rest}
	err := c.run(ctx)
	if len(fields) == 0 && errors.Is(err, store.ErrDamaged) { // what two of them have is not known, and nothing is counted yet
		err = s.Scan(ctx, q, rest)
	}
	if err == nil {
		err = s.none()
	}
	if q.Limit > 0 {
		sum.Events = min(sum.Events, int64(q.Limit))
	}
	return sum, err
}

// counting is one Tally of all collectors.
type counting struct {
	s      *Source
	q      *query.Query
	fields []query.Field
	// aliased: an administrator has said of some host that its records are another's, too.
	aliased bool

	mu   sync.Mutex // guards sum, and calls of rest
	sum  *query.Tally
	rest func(*event.Event) error
}

// run counts.
func (c *counting) run(ctx context.Context) error {
	hosts, err := c.values(ctx, query.FieldNode, c.times(nil))
	if err != nil {
		return err
	}
	shared := several(hosts)
	if len(shared) == 0 {
		return c.each(ctx, func(*member) *query.Query { return c.q })
	}
	if err := c.aliases(ctx); err != nil {
		return err
	}
	hours, err := c.values(ctx, query.FieldHour, c.times(shared))
	if err != nil {
		return err
	}
	at := c.q.StartMs
	for _, both := range spansOf(several(hours)) {
		if apart := c.within(span{at, both.from - 1}); both.from > 0 && apart != nil {
			if err := c.each(ctx, func(*member) *query.Query { return apart }); err != nil {
				return err
			}
		}
		at = both.to + 1
		if both := c.within(both); both != nil {
			if err := c.both(ctx, both, shared, hosts); err != nil {
				return err
			}
		}
	}
	if apart := c.within(span{at, 0}); apart != nil {
		return c.each(ctx, func(*member) *query.Query { return apart })
	}
	return nil
}

// both counts the events of a time in which several collectors may have the same.
func (c *counting) both(ctx context.Context, q *query.Query, shared []string, hosts map[*member]map[string]bool) error {
	merged, own := *q, map[*member][]string{}
	named := c.nameable(shared)
	for m, all := range hosts {
		for name := range all {
			if _, ok := slices.BinarySearch(shared, name); !ok {
				own[m] = append(own[m], name)
			}
		}
		slices.Sort(own[m])
		named = named && c.nameable(own[m])
	}
	if named {
		merged.Nodes = shared
		err := c.each(ctx, func(m *member) *query.Query {
			if len(own[m]) == 0 {
				return nil
			}
			one := *q
			one.Nodes = own[m]
			return &one
		})
		if err != nil {
			return err
		}
	}
	return c.s.Scan(ctx, &merged, c.rest)
}

// each has all collectors count what ask says, at once; nothing where that is nil.
func (c *counting) each(ctx context.Context, ask func(*member) *query.Query) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var asking sync.WaitGroup
	list := c.s.asked()
	errs := make([]error, len(list)) // of rest
	for i, m := range list {
		q := ask(m)
		if q == nil {
			continue
		}
		asking.Go(func() {
			var bad error
			part := false
			err := c.s.call(ctx, m, func(ctx context.Context) error {
				sum, err := m.src.Tally(ctx, q, c.fields, func(ev *event.Event) error {
					c.mu.Lock()
					defer c.mu.Unlock()
					part = true
					bad = c.rest(ev)
					return bad
				})
				if sum != nil && (err == nil || errors.Is(err, store.ErrDamaged)) {
					c.mu.Lock()
					defer c.mu.Unlock()
					c.merge(sum)
					if bad == nil {
						bad = c.sum.Err()
					}
				}
				return err
			})
			switch {
			case bad != nil:
				errs[i] = bad
				cancel()
			case ctx.Err() != nil || err == nil:
			case len(c.fields) > 0 && (errors.Is(err, store.ErrDamaged) || errors.Is(err, api.ErrQuery)): // it can be read
				errs[i] = err
				cancel()
			case errors.Is(err, store.ErrDamaged):
				c.s.lacks(m, err)
			default:
				c.s.fail(m, Failure{Err: err, Part: part})
			}
		})
	}
	asking.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// merge adds what a collector has counted: value by value, for what came over a connection is a list.
func (c *counting) merge(sum *query.Tally) {
	c.sum.Events += sum.Events
	if sum.Any {
		c.sum.Time(sum.FirstMs, sum.LastMs)
	}
	for f := range query.Field(query.NumIndexed) {
		if to := c.sum.Of(f); to != nil {
			sum.Of(f).Each(to.AddString)
		}
	}
}

// times is the question for the events of some hosts, of all where there are too many or one has no plain name,
// whatever else is asked of them.
func (c *counting) times(hosts []string) *query.Query {
	q := &query.Query{StartMs: c.q.StartMs, EndMs: c.q.EndMs, From: c.q.From, Nodes: c.q.Nodes, Memory: c.q.Memory, Fleet: c.q.Fleet}
	if len(hosts) > 0 && c.nameable(hosts) {
		q.Nodes = hosts
	}
	return q
}

// values returns which values of a field each collector's events have. Error: store.ErrDamaged where that cannot be told of one.
func (c *counting) values(ctx context.Context, f query.Field, q *query.Query) (map[*member]map[string]bool, error) {
	var mu sync.Mutex // guards all and damage
	all := map[*member]map[string]bool{}
	var damage error
	var asking sync.WaitGroup
	for _, m := range c.s.asked() {
		asking.Go(func() {
			has := map[string]bool{}
			err := c.s.call(ctx, m, func(ctx context.Context) error {
				sum, err := m.src.Tally(ctx, q, []query.Field{f}, func(ev *event.Event) error {
					query.Places(ev, func(of query.Field, v string) {
						if of == f {
							has[v] = true
						}
					})
					return nil
				})
				if sum != nil {
					sum.Of(f).Each(func(v string, _ int64) { has[v] = true })
				}
				return err
			})
			damaged := errors.Is(err, store.ErrDamaged)
			if err != nil && ctx.Err() == nil && !damaged {
				c.s.fail(m, Failure{Err: err})
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if all[m] = has; damaged {
				damage = err
			}
		})
	}
	asking.Wait()
	return all, errors.Join(damage, ctx.Err())
}

// several returns the values that more than one collector has, sorted.
func several(all map[*member]map[string]bool) []string {
	n := map[string]int{}
	for _, has := range all {
		for v := range has {
			n[v]++
		}
	}
	maps.DeleteFunc(n, func(_ string, n int) bool { return n < 2 })
	return slices.Sorted(maps.Keys(n))
}

// aliases finds out whether a name stands for other hosts, too.
func (c *counting) aliases(ctx context.Context) error {
	hosts, err := c.s.Hosts(ctx)
	c.aliased = slices.ContainsFunc(hosts, func(h *fleet.Host) bool { return len(h.GetAlso()) > 0 })
	return err
}

// nameable reports whether a question can name hosts and is about no others: names may be patterns.
func (c *counting) nameable(names []string) bool {
	return !c.aliased && len(names) <= maxNames && !slices.ContainsFunc(names, func(name string) bool { return name == "" || strings.ContainsAny(name, "*?[\\") })
}

// span is a time in ms since 1970, both ends inclusive; 0 is open.
type span struct{ from, to int64 }

// spansOf makes of hours, as values of query.FieldHour, at most maxSpans times, in order.
func spansOf(hours []string) (list []span) {
	for _, text := range hours {
		if h, err := strconv.ParseInt(text, 10, 64); err == nil {
			h = max(h, 0)
			list = append(list, span{h * hourMs, h*hourMs + hourMs - 1})
		}
	}
	slices.SortFunc(list, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for gap := int64(0); ; gap = max(2*gap, hourMs) {
		var joined []span
		for _, x := range list {
			if n := len(joined); n > 0 && x.from-joined[n-1].to-1 <= gap {
				joined[n-1].to = x.to
				continue
			}
			joined = append(joined, x)
		}
		if list = joined; len(list) <= maxSpans {
			return list
		}
	}
}

// within returns the question narrowed to a time; nil where it asks of none of it.
func (c *counting) within(t span) *query.Query {
	q := *c.q
	if t.from > 0 {
		q.StartMs = max(q.StartMs, t.from)
	}
	if t.to > 0 && (q.EndMs == 0 || q.EndMs > t.to) {
		q.EndMs = t.to
	}
	if q.EndMs != 0 && q.StartMs > q.EndMs {
		return nil
	}
	return &q
}
