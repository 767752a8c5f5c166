package clickhouse

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Tally has the cluster count what the columns tell. It reads the events that must not be counted so, and where the columns do not tell what is
// asked, all of them: these it counts itself as far as may be, and gives the rest.
func (s *snapshot) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	x, err := s.question(ctx, q)
	if err != nil {
		return nil, err
	}
	sum, err := x.tally(ctx, q, fields, rest)
	if err != nil {
		return nil, err
	}
	return sum, s.still(ctx, x.account)
}

func (x *question) tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	sum := query.NewTally(fields, q.Memory)
	c, err := x.counting(ctx, q, fields)
	if err != nil {
		return nil, err
	}
	left := "" // of what is read: all
	if c != nil {
		if left = c.apart; left == "" {
			return sum, c.count(ctx, sum)
		}
		if err := c.count(ctx, sum); err != nil {
			return nil, err
		}
	}
	err = scan(ctx, q, x.readers(false, left), func(_ *store.Found, ev *event.Event) error {
		if c == nil && sum.AddEvent(ev) {
			return sum.Err()
		}
		return rest(ev)
	})
	if err != nil {
		return nil, err
	}
	return sum, nil
}

// counting is a tally that the cluster makes.
type counting struct {
	*question
	fields   []query.Field
	some     []string // what rows meet that are counted, beside what the question says
	apart    string   // what rows meet of the question's that are not counted; "": there are none
	repeated string   // what rows meet of which there may be others with the same key; "": there are none
	where    string   // which partitions these are in, and more
	memory   *query.Memory

	mu sync.Mutex // guards the tally
}

// counting returns how the cluster counts; nil where it cannot: a field has no column, or no end of names would have to be said.
func (x *question) counting(ctx context.Context, q *query.Query, fields []query.Field) (_ *counting, err error) {
	if !inColumns(fields) {
		return nil, nil //nolint:nilnil // it cannot
	}
	c := &counting{question: x, fields: fields, memory: q.Memory}
	var apart []string
	if divide(&apart, &c.some, "ts_ms <= 0"); q.StartMs > 0 {
		apart = nil // there are none
	}
	bits := uint8(0)
	if len(fields) > 0 {
		for _, f := range query.Apart(fields) {
			bits |= apartOf(f)
		}
	}
	if bits != 0 {
		divide(&apart, &c.some, fmt.Sprintf("bitAnd(apart, %d) != 0", bits))
	}
	var nodes, senders bool
	if len(q.Nodes) > 0 {
		divide(&apart, &c.some, "node = ''")
		nodes = len(q.Nodes) > maxList || slices.ContainsFunc(q.Nodes, query.IsPattern)
	}
	if len(q.From) > 0 {
		c.some = append(c.some, "transport != 0")
		senders = true
	}
	moved, ok, err := x.moved(ctx, q)
	if err != nil || !ok {
		return nil, err
	}
	if moved != "" {
		divide(&apart, &c.some, moved)
	}
	if len(apart) > 0 {
		c.apart = "(" + strings.Join(apart, " OR ") + ")"
	}
	c.repeated, c.where = x.account.repeated(q)
	if nodes {
		ok, err = c.only(ctx, "node", q.WantsNode)
	}
	if senders && ok && err == nil {
		ok, err = c.only(ctx, "sender", func(addr string) bool {
			s, err := from(1, addr, "")
			return err == nil && q.IsFrom(s)
		})
	}
	if !ok || err != nil {
		return nil, err
	}
	return c, nil
}

// divide adds a condition to those of which one is enough not to be counted, and its opposite to those that all must be met.
func divide(apart, some *[]string, condition string) {
	*apart, *some = append(*apart, condition), append(*some, "NOT ("+condition+")")
}

// only adds which of a column's values are wanted; it returns false where they are too many.
func (c *counting) only(ctx context.Context, column string, wanted func(string) bool) (ok bool, err error) {
	var all []string
	for _, shard := range c.shards {
		var some []string
		sql := "SELECT DISTINCT " + column + c.from("", column)
		err := shard.ask(ctx, sql, func() { some = nil }, func(scan func(...any) error) error {
			var v string
			err := scan(&v)
			if err == nil && wanted(v) {
				some = append(some, v)
			}
			return err
		})
		if err != nil {
			return false, fmt.Errorf("find which %ss there are: %w", column, err)
		}
		all = append(all, some...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if c.some = append(c.some, column+" IN ("+quoteAll(all)+")"); len(all) == 0 {
		c.some = []string{"0"}
	}
	return len(all) <= maxList, nil
}

// count adds what the shards count to sum.
func (c *counting) count(ctx context.Context, sum *query.Tally) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, shard := range c.shards {
		wg.Go(func() {
			if err := c.countIn(ctx, shard, sum); err != nil {
				cancel(fmt.Errorf("count: %w", err))
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// countIn adds what a shard counts.
func (c *counting) countIn(ctx context.Context, in *shard, sum *query.Tally) error {
	var events uint64
	var first, last int64
	err := in.ask(ctx, "SELECT count(), min(ts_ms), max(ts_ms)"+c.from("", "ts_ms"), func() {}, func(scan func(...any) error) error {
		return scan(&events, &first, &last)
	})
	if err != nil || events == 0 {
		return err
	}
	c.mu.Lock()
	sum.Events += int64(events)
	sum.Time(first, last)
	c.mu.Unlock()
	if sum.Combines() {
		return c.values(ctx, in, sum, query.FieldEach, combination(c.fields))
	}
	for _, f := range c.fields {
		if e, ok := single(f); ok {
			if err := c.values(ctx, in, sum, f, []expression{e}); err != nil {
				return err
			}
		}
	}
	return nil
}

// values adds the values of a field, of which the expressions are the parts, and how many events have each.
func (c *counting) values(ctx context.Context, in *shard, sum *query.Tally, f query.Field, of []expression) error {
	var memory *query.Memory
	var some *query.Tally
	begin := func() {
		memory.Release()
		memory = query.NewMemory(math.MaxInt64, c.memory)
		some = query.NewTally(c.fields, memory)
	}
	text, n := make([]string, len(of)), uint64(0)
	to := make([]any, 0, len(of)+1)
	for i := range text {
		to = append(to, &text[i])
	}
	to = append(to, &n)
	err := in.ask(ctx, c.grouped(of), begin, func(scan func(...any) error) error {
		if err := scan(to...); err != nil {
			return err
		}
		for i := range of {
			text[i] = of[i].value(text[i])
		}
		if some.Of(f).AddString(strings.Join(text, query.EachSeparator), int64(n)); some.Err() != nil {
			return query.ErrStop
		}
		return nil
	})
	if err == nil {
		err = some.Err()
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := false // sum takes over what was counted as it is
	sum.Of(f).Each(func(string, int64) { taken = true })
	sum.Merge(some)
	if taken {
		memory.Release()
	}
	return sum.Err()
}
