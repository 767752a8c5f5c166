package head

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

const (
	// Events are given as text when so many wait, or so many bytes of them, or for so long.
	textsEvents = 1024
	textsBytes  = 256 << 10
	textsDelay  = 100 * time.Millisecond
)

// ScanText implements query.TextSource: it is Scan, with the events as *store.Texts.
func (h *Head) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	if q.Batches || q.After != nil {
		return fmt.Errorf("%w: pages have events", query.ErrQuery)
	}
	behind, err := h.catchUp(ctx)
	if err != nil {
		return err
	}
	t := &textBatch{fn: fn, last: time.Now(), most: q.Limit}
	err = h.scanText(ctx, h.also(q), withOpen(q), t.add)
	if err == nil || errors.Is(err, store.ErrDamaged) {
		if bad := t.flush(); bad != nil {
			if errors.Is(bad, query.ErrStop) {
				bad = nil
			}
			return bad
		}
		err = errors.Join(err, behind)
	}
	return err
}

func (h *Head) scanText(ctx context.Context, q *query.Query, open bool, fn func(*store.Found) error) (err error) {
	now, snap, err := h.moment(ctx, q, open)
	if err != nil {
		return fmt.Errorf("search the store: %w", err)
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	m := merging{ctx: ctx, m: query.NewMatcher(q), refs: now.selectFrom(q, snap), reverse: q.Reverse, fn: func(ref *store.Ref, ev *event.Event) error {
		f := ref.Found(ev)
		return fn(&f)
	}}
	err = m.merge(func() error {
		return store.ScanText(ctx, snap, q, func(f *store.Found) error {
			if err := m.until(f.Key); err != nil {
				return err
			}
			return m.stop(fn(f))
		})
	})
	if err == nil || errors.Is(err, store.ErrDamaged) {
		err = errors.Join(err, errors.Join(h.damage...))
	}
	return err
}

// textBatch collects events until enough of them are there for fn.
type textBatch struct {
	fn    func(query.Texts) error
	list  []store.Found
	had   int // events that were given last
	bytes int
	last  time.Time // when some were given last
	given uint64
	most  uint64 // 0: all
}

func (t *textBatch) add(f *store.Found) error {
	if t.list == nil {
		t.list = make([]store.Found, 0, max(64, min(t.had+t.had/8, textsEvents)))
	}
	t.list = append(t.list, *f)
	t.bytes += len(f.Text)
	t.given++
	if t.most > 0 && t.given >= t.most {
		return query.ErrStop // flush gives them
	}
	if t.bytes < textsBytes && len(t.list) < textsEvents && time.Since(t.last) < textsDelay {
		return nil
	}
	return t.flush()
}

func (t *textBatch) flush() error {
	list := t.list
	t.had = len(list)
	t.list, t.bytes, t.last = nil, 0, time.Now()
	if len(list) == 0 {
		return nil
	}
	return t.fn(&store.Texts{List: list})
}
