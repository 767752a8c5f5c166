package clickhouse

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

var (
	_ store.Dropping    = (*Engine)(nil)
	_ store.OwnDropping = (*Engine)(nil)
)

// droppedOf begins the names of the rows of meta that say to a collector what of a part that was dropped was its own; its store's ID follows.
const droppedOf = "dropped of "

// telling is the value of such a row. Times are ms since 1970.
type telling struct {
	Day     int32  `json:"day"`
	Part    int    `json:"part"`
	Class   string `json:"class,omitempty"` // of which its events were
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

func (t *telling) drop() store.DroppedPart {
	return store.DroppedPart{Part: store.Part{Day: dayOf(t.Day), N: t.Part}, Class: t.Class, At: time.UnixMilli(t.At), By: t.By, Why: t.Why,
		First: t.First, Last: t.Last, Batches: t.Batches, Events: t.Events, MinMs: t.MinMs, MaxMs: t.MaxMs}
}

// has reports whether it says what another one does of the same part.
func (t *telling) has(x *telling) bool {
	return t.First == x.First && t.Last == x.Last && t.Batches == x.Batches && t.Events == x.Events
}

// tellings makes them of a part that is there, by store. What of a batch was stored anew in another part of the day, for this one was dropped meanwhile, is not dropped with it.
func (e *Engine) tellings(ctx context.Context, first []*node, part store.Part) (all map[string]*telling, err error) {
	w, err := e.cluster.word(ctx, first)
	if err != nil {
		return nil, err
	}
	db, day := e.cluster.address.Database, dayNumber(part.Day)
	not := []string{strconv.Itoa(part.N)} // a batch that is in two which are dropped is told of both
	for p := range w.dropped {
		if p.Day == part.Day && p != part {
			not = append(not, strconv.Itoa(p.N))
		}
	}
	sql := fmt.Sprintf("SELECT store, min(batch), max(batch), uniqExact(batch), sum(e), minIf(lo, lo != 0), max(hi) FROM (SELECT store, batch, first, any(events) AS e, any(min_ms) AS lo, any(max_ms) AS hi FROM %s.batches "+
		"WHERE day = %d AND part = %d AND events > 0 AND (store, batch, first) NOT IN (SELECT store, batch, first FROM %s.batches WHERE day = %d AND part NOT IN (%s) AND events > 0) GROUP BY store, batch, first) GROUP BY store",
		db, day, part.N, db, day, strings.Join(not, ", "))
	err = e.cluster.ask(ctx, first, sql, func() { all = map[string]*telling{} }, func(scan func(...any) error) error {
		var id string
		t := &telling{Day: day, Part: part.N}
		err := scan(&id, &t.First, &t.Last, &t.Batches, &t.Events, &t.MinMs, &t.MaxMs)
		all[id] = t
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read whose batches are in %s: %w", part, err)
	}
	return all, nil
}

// words are the rows of meta that say what is told.
func words(told map[string]*telling) (names, values []string, err error) {
	for _, id := range slices.Sorted(maps.Keys(told)) {
		b, err := json.Marshal(told[id])
		if err != nil {
			return nil, nil, err
		}
		names, values = append(names, droppedOf+id), append(values, string(b))
	}
	return names, values, nil
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
		list = append(list, t.drop())
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read which parts are dropped: %w", err)
	}
	return merged(list), nil
}

// merged makes one of the rows of each part. A drop that was tried again has several, of which the later ones may have less, and so has one during which a batch was stored
// in the part, of which the later one may have more. Who dropped it, when and why is said by the first.
func merged(list []store.DroppedPart) (out []store.DroppedPart) {
	slices.SortStableFunc(list, func(a, b store.DroppedPart) int { return cmp.Or(a.Part.Compare(b.Part), a.At.Compare(b.At)) })
	for _, d := range list {
		if len(out) == 0 || out[len(out)-1].Part != d.Part {
			out = append(out, d)
			continue
		}
		m := &out[len(out)-1]
		m.First, m.Last, m.Batches, m.Events = min(m.First, d.First), max(m.Last, d.Last), max(m.Batches, d.Batches), max(m.Events, d.Events)
		if m.MinMs == 0 || d.MinMs != 0 && d.MinMs < m.MinMs {
			m.MinMs = d.MinMs
		}
		m.MaxMs = max(m.MaxMs, d.MaxMs)
	}
	return out
}

// marked returns those of parts that are marked as dropped. A row of a part that is not says nothing: the part is there, and answers have it.
func marked(list []store.DroppedPart, marks map[store.Part]time.Time) []store.DroppedPart {
	return slices.DeleteFunc(list, func(d store.DroppedPart) bool {
		_, is := marks[d.Part]
		return !is
	})
}

// Drops implements store.Dropping.
func (e *Engine) Drops(ctx context.Context) ([]store.DroppedPart, error) {
	first, err := e.first(ctx)
	if err != nil {
		return nil, err
	}
	list, err := e.dropsOf(ctx, first, e.opts.Store)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	w, err := e.cluster.word(ctx, first)
	if err != nil {
		return nil, err
	}
	list = marked(list, w.dropped)
	a, err := e.known(ctx, fresh) // behind the rows: what they say is not in it any more
	if err != nil {
		return nil, err
	}
	there, ofClass := map[store.Day]bool{}, map[store.Day]map[string]bool{}
	for part, p := range a.parts {
		if there[part.Day] = true; ofClass[part.Day] == nil {
			ofClass[part.Day] = map[string]bool{}
		}
		ofClass[part.Day][p.Class] = ofClass[part.Day][p.Class] || p.Events > 0 // one that was only begun has nothing of it
	}
	for i := range list {
		d := &list[i]
		of := ofClass[d.Part.Day]
		d.DayGone, d.ClassGone = !there[d.Part.Day], d.Class != "" && !of[d.Class] && !of[store.Undivided]
		if d.Class == store.Undivided {
			for class, some := range of {
				if some {
					d.There = append(d.There, class)
				}
			}
			slices.Sort(d.There)
		}
	}
	return list, nil
}
