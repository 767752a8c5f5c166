package bolt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// An engine's parts are dropped by this place's collector or, where others keep their events there, too, by one of these, whoever is first. The engine says what of each was
// this place's own, and the place notes it as an embedded store notes its own drops: in the account of hosts' completeness, so that records that were dropped are not taken for
// lost nor for there, and in the log of what was stored, with whose word it is.

// drops is what is known of parts that the engine has dropped; guarded by Outbox.noting.
type drops struct {
	noted map[store.Part]noted // that the log has; nil: it was not read yet
	found map[store.Part]noted // what noted is to be, of the leaves that were read
	read  int64                // leaves that were read
}

// ownDrop is a part that this process has the engine drop.
type ownDrop struct {
	why  string
	told *store.DroppedPart // what of it was the place's own; nil: it is under way
}

// Drop has the engine delete a part. It waits for nothing: an engine whose disk is full takes batches again once days are gone. That it was dropped is noted
// behind it, again and again until it is.
//
// The engine's word is that of anybody who may write there. So the log has a drop as this place's own only where it was made by this very process and noted by it, with what the
// engine has told this process of it and nobody else; what it says beyond that, and what another process of the place has dropped and not noted any more, is the engine's
// word, as others' are.
func (o *Outbox) Drop(ctx context.Context, part store.Part, why string) error {
	o.setOwn(part, ownDrop{why: why})
	var told *store.DroppedPart
	e, err := store.Able[store.OwnDropping](o.engine, "say what of a part was a place's own")
	if err == nil {
		told, err = e.DropOwn(ctx, part, why)
	} else {
		err = o.engine.Drop(ctx, part, why)
	}
	if err == nil && told != nil {
		o.setOwn(part, ownDrop{why, told})
	} else {
		o.endOwn(part, false)
	}
	if errors.Is(err, store.ErrNoDay) && len(o.local.partsOf(part.Day)) > 0 {
		err = fmt.Errorf("%w: its events wait for the engine", store.ErrInUse)
	}
	if err != nil {
		return err
	}
	if err := o.noteDrops(ctx); err != nil {
		o.local.log.Warn("what was dropped is in neither the account nor the log yet", "part", part.String(), "error", err)
	}
	return nil
}

// setOwn notes that this process drops a part, or has dropped it. What it was told already stays.
func (o *Outbox) setOwn(part store.Part, d ownDrop) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.own == nil {
		o.own = map[store.Part]ownDrop{}
	}
	if d.told != nil || o.own[part].told == nil {
		o.own[part] = d
	}
}

// endOwn forgets a part: the log has it, or it was not dropped.
func (o *Outbox) endOwn(part store.Part, logged bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if logged || o.own[part].told == nil {
		delete(o.own, part)
	}
}

// ownDrops returns them.
func (o *Outbox) ownDrops() map[store.Part]ownDrop {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.own)
}

// noteTime bounds one look at what is dropped.
const noteTime = time.Minute

// watchDrops notes what is dropped, by others too, until Close.
func (o *Outbox) watchDrops() {
	failed := false
	for {
		ctx, cancel := context.WithTimeout(o.ctx, noteTime)
		err := o.noteDrops(ctx)
		cancel()
		if o.ctx.Err() != nil {
			return
		}
		if err != nil && !failed {
			o.local.log.Info("which days other collectors have dropped is not known now", "error", err)
		}
		failed = err != nil
		select {
		case <-time.After(o.times.look):
		case <-o.ctx.Done():
			return
		}
	}
}

// beforeCheckpoint is how long a checkpoint waits for what the engine says of drops.
const beforeCheckpoint = 3 * time.Second

// noteForCheckpoint notes drops before a checkpoint is signed, so that it has those of other collectors, too: else whoever compares the store with it finds batches gone, up to
// the next look. Where the engine does not answer, or that look is under way, the next one has them.
func (o *Outbox) noteForCheckpoint(ctx context.Context) {
	if o.local.opts.ReadOnly || !o.noting.TryLock() {
		return
	}
	defer o.noting.Unlock()
	ctx, cancel := context.WithTimeout(ctx, beforeCheckpoint)
	defer cancel()
	if err := o.noteNew(ctx); err != nil {
		o.local.log.Debug("what was dropped is not asked before a checkpoint", "error", err)
	}
}

// noteDrops notes the drops that are not noted yet.
func (o *Outbox) noteDrops(ctx context.Context) error {
	o.noting.Lock()
	defer o.noting.Unlock()
	return o.noteNew(ctx)
}

// noteNew is noteDrops with noting held.
func (o *Outbox) noteNew(ctx context.Context) error {
	last, err := o.local.lastBatch()
	if err != nil {
		return err
	}
	if err := o.noteOwn(); err != nil {
		return err
	}
	list, err := o.Drops(ctx)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		o.setAged(nil)
		return nil
	}
	if o.drops.noted == nil {
		if err := o.readNoted(ctx); err != nil {
			return err
		}
	}
	aged := o.agedDrops()
	own := o.ownDrops() // behind the list: what is dropped by this process is its own word first
	g, done := gones{days: map[store.Day]int64{}, classes: map[dayClass]int64{}, there: map[store.Day][]string{}, last: last}, []agedPart{}
	for i := range list {
		d := &list[i]
		// A batch that was stored in a part while that was dropped may be told later.
		if _, is := own[d.Part]; !is && !o.drops.noted[d.Part].has(d.Class, d.First, d.Last) {
			if err := o.local.sealElsewhereDrop(d, "", false); err != nil {
				return err
			}
			o.drops.noted[d.Part] = o.drops.noted[d.Part].with(d.Class, d.First, d.Last)
		}
		if day := (agedPart{d.Part, false}); d.DayGone && !aged[day] {
			g.days[d.Part.Day] = max(g.days[d.Part.Day], d.At.UnixMilli())
			done = append(done, day)
		}
		if class := (agedPart{d.Part, true}); d.ClassGone && d.Class != "" && !aged[class] {
			of := dayClass{d.Part.Day, d.Class}
			g.classes[of] = max(g.classes[of], d.At.UnixMilli())
			if d.Class == store.Undivided {
				g.there[d.Part.Day] = d.There
			}
			done = append(done, class)
		}
	}
	if len(done) > 0 {
		if err := o.local.age(g); errors.Is(err, errLater) {
			done = nil // the next look does it
		} else if err != nil {
			return fmt.Errorf("keep in the account which records were dropped: %w", err)
		}
	}
	o.setAged(done)
	return nil
}

// setAged notes that it was looked what is dropped, and that the account has some more of it.
func (o *Outbox) setAged(more []agedPart) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.aged == nil {
		o.aged = map[agedPart]bool{}
	}
	for _, part := range more {
		o.aged[part] = true
	}
}

// agedDrops returns the drops that the account has; nil: that is not known yet.
func (o *Outbox) agedDrops() map[agedPart]bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.aged)
}

// Unaged implements store.Listed.
func (o *Outbox) Unaged(ctx context.Context) (parts []store.Part, known bool, err error) {
	list, err := o.Drops(ctx)
	if err != nil {
		return nil, false, err
	}
	aged := o.agedDrops()
	known = aged != nil
	for i := range list {
		d := &list[i]
		if d.DayGone && (!known || aged[agedPart{d.Part, false}]) || d.ClassGone && (!known || aged[agedPart{d.Part, true}]) {
			continue
		}
		parts = append(parts, d.Part)
	}
	return parts, known, nil
}

// noteOwn writes into the log what this process has dropped, as it was told then.
func (o *Outbox) noteOwn() error {
	for part, d := range o.ownDrops() {
		if d.told == nil {
			continue
		}
		if err := o.local.sealElsewhereDrop(d.told, d.why, true); err != nil {
			return err
		}
		if o.drops.noted != nil {
			o.drops.noted[part] = o.drops.noted[part].with(d.told.Class, d.told.First, d.told.Last)
		}
		o.endOwn(part, true)
	}
	return nil
}

// noted is what the log has of a part that was dropped.
type noted struct {
	classes     []string // one, unless who may write where the engine keeps its events has said another one
	first, last uint64
}

func (n noted) has(class string, first, last uint64) bool {
	return slices.Contains(n.classes, class) && first >= n.first && last <= n.last
}

func (n noted) with(class string, first, last uint64) noted {
	if len(n.classes) == 0 {
		return noted{[]string{class}, first, last}
	}
	out := noted{n.classes, min(first, n.first), max(last, n.last)}
	if !slices.Contains(n.classes, class) {
		out.classes = append(slices.Clone(n.classes), class)
	}
	return out
}

// readNoted reads from the log which drops it has. A large log takes several tries: each goes on where the one before came to.
func (o *Outbox) readNoted(ctx context.Context) error {
	d := &o.drops
	if d.found == nil {
		d.found = map[store.Part]noted{}
	}
	var err error
	d.read, err = o.local.tree.Walk(ctx, d.read, o.local.tree.Size(), func(r *seal.Row) bool { return r.Has(seal.Dropped) }, func(_ int64, l *seal.Leaf, text []byte) bool {
		if l.Kind != seal.Dropped || l.Flags&seal.Elsewhere == 0 {
			return true
		}
		whole, err := seal.ParseLeaf(text) // also the words
		if err != nil {
			return true
		}
		if part, err := store.ParsePart(strings.TrimPrefix(l.Part, seal.ClusterPart)); err == nil {
			d.found[part] = d.found[part].with(seal.DroppedClass(whole.Why), l.First, l.Last)
		}
		return true
	})
	if err != nil {
		return err
	}
	d.noted, d.found = d.found, nil
	return nil
}

// agedPart is a part whose drop has ended its day, or its class of the day.
type agedPart struct {
	store.Part
	class bool
}

// sealElsewhereDrop writes into the log that an engine has dropped a part, behind the leaves of its batches; own says that this process had it do so, and why.
func (s *Store) sealElsewhereDrop(d *store.DroppedPart, why string, own bool) error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	if _, err := s.lastBatch(); err != nil {
		return err
	}
	if err := s.catchUp(math.MaxUint64, nil); err != nil {
		return fmt.Errorf("keep the leaves of what was dropped in the log: %w", err)
	}
	if !own {
		why = seal.WhyByCluster(cmp.Or(d.By, "(which is not told)"), d.At.UTC().Format(time.RFC3339), d.Class, d.Why)
		s.log.Warn("the cluster says that a day of events was dropped, not by this process", "part", d.Part.String(), "class", d.Class, "store", d.By, "reason", d.Why, "events of this collector", d.Events)
	} else {
		why = seal.WhyDropped(d.Class, why)
	}
	l := &seal.Leaf{Kind: seal.Dropped, Flags: seal.Elsewhere, Store: s.list.id, At: now().UnixMilli(), Part: seal.ClusterPart + d.Part.String(), First: d.First, Last: d.Last,
		Groups: d.Batches, Events: d.Events, MinMs: d.MinMs, MaxMs: d.MaxMs, Why: seal.Clip(why)}
	if err := s.tree.Append(l); err != nil {
		return fmt.Errorf("say in the log what was dropped: %w", err)
	}
	s.partSealed()
	return nil
}
