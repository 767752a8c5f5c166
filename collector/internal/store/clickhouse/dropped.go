package clickhouse

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// A part is dropped by a row of meta that says so, behind which it is deleted: partition by partition, shard by shard. From that row on the
// part is gone, whatever of it is still there, and for good: no batch goes to a part of that number. Whoever reads meanwhile looks at the rows
// once more at the end.

// droppedName is the name of these rows of meta. Their values are the day, the part and when, in ms since 1970.
const droppedName = "dropped"

// leftTime is how long a part that is dropped may be deleted by nobody but who dropped it, whose answers may still read it.
const leftTime = 24 * time.Hour

// dropMark is the value of such a row.
func dropMark(p store.Part, now time.Time) string {
	return fmt.Sprintf("%d %d %d", dayNumber(p.Day), p.N, now.UnixMilli())
}

// markOf reads what dropMark begins a value with.
func markOf(value string) (p store.Part, at time.Time, err error) {
	var day int32
	var ms int64
	_, err = fmt.Sscanf(value, "%d %d %d", &day, &p.N, &ms)
	p.Day = dayOf(day)
	return p, time.UnixMilli(ms), err
}

// serverTime is the server's clock in a statement, in seconds since 1970.
const serverTime = "toInt64(toUnixTimestamp(now()))"

// word is what a shard's meta says: which clusters it is, and, of the first shard, which parts are dropped, and when each was; by the servers' clock, as what is written is.
type word struct {
	identities []string
	dropped    map[store.Part]time.Time
	now        time.Time // by the server's clock; zero where meta is empty
}

// word reads a shard's word.
func (c *servers) word(ctx context.Context, nodes []*node) (w word, err error) {
	sql := "SELECT name, value, " + serverTime + " FROM " + c.address.Database + ".meta WHERE name IN ('" + droppedName + "', '" + identityName + "') ORDER BY name, value"
	err = c.shard(nodes).ask(ctx, sql, func() { w = word{dropped: map[store.Part]time.Time{}} }, func(scan func(...any) error) error {
		var name, value string
		var now int64
		if err := scan(&name, &value, &now); err != nil {
			return err
		}
		w.now = time.Unix(now, 0)
		if name == identityName {
			w.identities = append(w.identities, value)
			return nil
		}
		part, at, err := markOf(value)
		if err != nil {
			return fmt.Errorf("%w: meta has %.80q of a part that was dropped", store.ErrDamaged, value)
		}
		w.dropped[part] = at
		return nil
	})
	if err != nil {
		return w, fmt.Errorf("read which cluster it is, and which parts are dropped: %w", err)
	}
	return w, nil
}

// mark says that a part is dropped, unless others have it on hold, and to each collector that has batches in it which those are, for their rows go with it. It keeps what it told.
func (e *Engine) mark(ctx context.Context, names []string, of map[string][]*node, p *store.PartStats, d *drop) (err error) {
	now, first := e.now(), of[names[0]]
	if d.told, err = e.tellings(ctx, first, d.part); err != nil {
		return err
	}
	if err := e.keepHosts(ctx, names, of, d, d.told, now); err != nil {
		return err
	}
	for _, t := range d.told {
		t.At, t.By, t.Why, t.Class = now.UnixMilli(), e.opts.Store, d.why, d.class
	}
	said, values, err := words(d.told)
	if err != nil {
		return err
	}
	w, err := e.verify(ctx, names, of)
	if err != nil {
		return err
	}
	if !store.ClocksAgree(now, w.now) {
		return fmt.Errorf("%w: this machine's clock (%s) and the cluster's (%s) are more than a day apart", store.ErrInUse, now.UTC().Format(time.RFC3339), w.now.UTC().Format(time.RFC3339))
	}
	d.at = w.now
	return e.decide(ctx, first, p, d, said, values)
}

// tellRest tells of batches whose rows came into a part between what was told of it and its mark, before it is deleted. Who stores a batch says that it is stored only if no mark
// was there behind its rows: so all of these are seen here.
func (e *Engine) tellRest(ctx context.Context, names []string, of map[string][]*node, d *drop) error {
	now, first := e.now(), of[names[0]]
	told, err := e.tellings(ctx, first, d.part)
	if err != nil {
		return err
	}
	for id, t := range told {
		t.At, t.By, t.Why, t.Class = now.UnixMilli(), d.by, d.why, d.class
		if was := d.told[id]; was != nil && was.has(t) {
			delete(told, id)
		}
	}
	if len(told) == 0 {
		return nil
	}
	if err := e.keepHosts(ctx, names, of, d, told, now); err != nil {
		return err
	}
	said, values, err := words(told)
	if err != nil {
		return err
	}
	if err := e.cluster.say(ctx, first, said, values); err != nil {
		return fmt.Errorf("say what was dropped with %s: %w", d.part, err)
	}
	return nil
}

// hide takes out of an account what is dropped and not deleted yet. What was left so for long is deleted, for who dropped it has died. How long that is, the servers' clock says at
// both ends.
func (e *Engine) hide(a *account, w *word) {
	a.dropped = w.dropped
	for part, at := range w.dropped {
		// What was put into a part behind its deletion, by a collector that died before it said where, no row says.
		p := a.parts[part]
		if p == nil && !a.there[part] {
			continue
		}
		if p == nil {
			p = &store.PartStats{Part: part}
		}
		delete(a.parts, part)
		a.hidden = append(a.hidden, part)
		if w.now.Sub(at) > leftTime && store.ClocksAgree(e.now(), w.now) && !e.opts.ReadOnly && e.leaving.CompareAndSwap(false, true) {
			e.cluster.meets.Go(func() {
				defer e.leaving.Store(false)
				d := &drop{part: part, class: p.Class, why: "it was dropped, and who did has not deleted it"}
				if err := e.delete(e.cluster.ctx, d); err != nil {
					e.opts.Log.Warn("a part that was dropped is still there", "part", part.String(), "error", err)
				}
			})
		}
	}
}

// still returns an error where an answer may lack something: a part that it was to have was dropped meanwhile by another collector, or the
// cluster is another one.
func (s *snapshot) still(ctx context.Context, a *account) error {
	names, of, err := s.e.cluster.shards(ctx)
	if err != nil {
		return err
	}
	w, err := s.e.verify(ctx, names, of)
	if err != nil {
		return err
	}
	s.e.mu.Lock()
	for part := range s.e.reads(s.number) {
		delete(w.dropped, part)
	}
	s.e.mu.Unlock()
	var gone []string
	for part := range a.parts {
		if _, is := w.dropped[part]; is && !s.hidden[part] {
			gone = append(gone, part.String())
		}
	}
	if len(gone) > 0 {
		s.e.outdated(a)
		return fmt.Errorf("%w: another collector has dropped %s during this answer: ask again", ErrCluster, strings.Join(gone, ", "))
	}
	return nil
}

// reads are the parts that were dropped after a snapshot was made, and wait for it; mu is held. Not those that others may delete soon, whose clocks tell them when.
func (e *Engine) reads(snapshot uint64) map[store.Part]bool {
	list := map[store.Part]bool{}
	for _, d := range e.drops {
		if d.until >= snapshot && time.Since(d.marked) < leftTime/2 {
			list[d.part] = true
		}
	}
	return list
}
