package clickhouse

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

var _ store.Dropping = (*Engine)(nil)

// droppedOf begins the names of the rows of meta that say to a collector what of a part that was dropped was its own; its store's ID follows.
const droppedOf = "dropped of "

// telling is the value of such a row. Times are ms since 1970.
type telling struct {
	Day     int32  `json:"day"`
	Part    int    `json:"part"`
	At      int64  `json:"at"`
	By      string `json:"by"` // the store of who dropped it
	Why     string `json:"why"`
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	Batches uint64 `json:"batches"`
	Events  uint64 `json:"events"`
	MinMs   int64  `json:"min_ms"`
	MaxMs   int64  `json:"max_ms"`
}

// tellings makes them of a part that is there, by store.
func (e *Engine) tellings(ctx context.Context, first []*node, part store.Part) (all map[string]*telling, err error) {
	sql := fmt.Sprintf("SELECT store, min(batch), max(batch), count(), sum(e), minIf(lo, lo != 0), max(hi) FROM (SELECT store, batch, any(events) AS e, any(min_ms) AS lo, any(max_ms) AS hi FROM %s.batches "+
		"WHERE day = %d AND part = %d AND events > 0 GROUP BY store, batch) GROUP BY store", e.cluster.address.Database, dayNumber(part.Day), part.N)
	err = e.cluster.ask(ctx, first, sql, func() { all = map[string]*telling{} }, func(scan func(...any) error) error {
		var id string
		t := &telling{Day: dayNumber(part.Day), Part: part.N}
		err := scan(&id, &t.First, &t.Last, &t.Batches, &t.Events, &t.MinMs, &t.MaxMs)
		all[id] = t
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read whose batches are in %s: %w", part, err)
	}
	return all, nil
}

// dropsOf returns what was told to a collector.
func (e *Engine) dropsOf(ctx context.Context, first []*node, member string) (list []store.DroppedPart, err error) {
	sql := "SELECT value FROM " + e.cluster.address.Database + ".meta WHERE name = " + quote(droppedOf+member)
	err = e.cluster.ask(ctx, first, sql, func() { list = nil }, func(scan func(...any) error) error {
		var value string
		if err := scan(&value); err != nil {
			return err
		}
		var t telling
		if err := json.Unmarshal([]byte(value), &t); err != nil {
			return fmt.Errorf("%w: meta has %.80q of a part that was dropped", store.ErrDamaged, value)
		}
		list = append(list, store.DroppedPart{Part: store.Part{Day: dayOf(t.Day), N: t.Part}, At: time.UnixMilli(t.At), By: t.By, Why: t.Why,
			First: t.First, Last: t.Last, Batches: t.Batches, Events: t.Events, MinMs: t.MinMs, MaxMs: t.MaxMs})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read which parts are dropped: %w", err)
	}
	// A drop that was tried again has several rows: the first says what there was.
	slices.SortFunc(list, func(a, b store.DroppedPart) int { return cmp.Or(a.Part.Compare(b.Part), a.At.Compare(b.At)) })
	return slices.CompactFunc(list, func(a, b store.DroppedPart) bool { return a.Part == b.Part }), nil
}

// Drops implements store.Dropping.
func (e *Engine) Drops(ctx context.Context) ([]store.DroppedPart, error) {
	return e.MemberDrops(ctx, e.opts.Store)
}

// MemberDrops implements store.Roster.
func (e *Engine) MemberDrops(ctx context.Context, member string) ([]store.DroppedPart, error) {
	first, err := e.first(ctx)
	if err != nil {
		return nil, err
	}
	list, err := e.dropsOf(ctx, first, member)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	a, err := e.known(ctx, fresh) // behind the rows: what they say is not in it any more
	if err != nil {
		return nil, err
	}
	there := map[store.Day]bool{}
	for part := range a.parts {
		there[part.Day] = true
	}
	for i := range list {
		list[i].DayGone = !there[list[i].Part.Day]
	}
	return list, nil
}
