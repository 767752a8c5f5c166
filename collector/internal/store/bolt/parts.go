package bolt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Drop deletes a sealed partition. Snapshots that have it go on reading it: the file stays
// open, without a name, until the last of them is closed. The log says so before, and why.
//
// What it knows of hosts' completeness stays known, with when its records were dropped.
func (s *Store) Drop(ctx context.Context, part store.Part, why string) error {
	return s.drop(ctx, part, why, true)
}

// drop is Drop; with pass, what it knows of hosts' completeness stays known.
func (s *Store) drop(ctx context.Context, part store.Part, why string, pass bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.opts.ReadOnly {
		return store.ErrReadOnly
	}
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	return s.dropLocked(part, why, pass)
}

// dropLocked is drop with appendMu held.
func (s *Store) dropLocked(part store.Part, why string, pass bool) error {
	p, err := s.droppable(part)
	if err == nil && p.ofImport() {
		err = s.keepID()
	}
	if err == nil {
		err = s.sealDrop(p, why)
	}
	if err != nil {
		return fmt.Errorf("drop %s: %w", part, err)
	}
	later := func() {}
	if pass {
		later = s.pass(part)
	}
	// Opened now, and kept open: without a name it cannot be opened later, and searches may begin until it
	// is gone.
	if err := p.openAgain(true); err != nil { // the searches that read it will say so, too
		s.log.Warn("a partition that is dropped cannot be read", "partition", p.path, "error", err)
	}
	size := (&partView{p: p}).stats().DiskBytes
	older := pass && p.impliesOlder() // one that was handed over says nothing of those before it
	if err := s.list.drop(part, older, func() error { return os.Remove(p.path) }); err != nil {
		return fmt.Errorf("drop %s: %w", part, errors.Join(err, p.pause()))
	}
	s.mu.Lock()
	s.forgetBroken(part, older)
	s.forgetUnreadable(p)
	s.parts = slices.DeleteFunc(slices.Clone(s.parts), func(x *partition) bool { return x == p })
	p.dropped = true
	used := p.refs > 0
	if used {
		p.lingers = size
		s.lingering += size
	}
	s.mu.Unlock()
	if !used {
		if err := p.close(); err != nil {
			s.log.Warn("closing a dropped partition", "partition", p.path, "error", err)
		}
	}
	later()
	if err := fsys.OS.SyncDir(filepath.Dir(p.path)); err != nil {
		return fmt.Errorf("drop %s: %w", part, err)
	}
	return nil
}

// impliesOlder reports whether older partitions would have been dropped before this one. It says nothing of them when an import is taken back, when its
// class of events is kept for a time of its own, or when its events came late.
func (p *partition) impliesOlder() bool {
	return !p.ofImport() && (p.compacted == nil || p.compacted.Class == "" && p.compacted.Received <= p.part.Day)
}

// pass has another partition know what a part that is about to be dropped knows of hosts'
// completeness. Where that fails, on a full disk, room goes before it: later is called once the part is dropped, and tries it
// again. appendMu is held.
func (s *Store) pass(part store.Part) (later func()) {
	later = func() {}
	p, err := s.droppable(part)
	if err != nil {
		return later
	}
	heir := s.heirOf(p)
	if heir == nil {
		return later
	}
	at := s.opts.now().UnixMilli()
	err = s.bequeath(p, heir, at)
	if err == nil {
		return later
	}
	unknown := func(err error) {
		s.log.Warn("what was known of hosts' completeness in a day that is dropped is unknown from now on", "partition", p.path, "error", err)
	}
	rest, rerr := p.left(heir, at)
	if rerr != nil {
		unknown(errors.Join(err, rerr))
		return later
	}
	return func() {
		if err := heir.inherit(p.mark(), rest, at); err != nil {
			unknown(err)
		}
	}
}

// droppable returns a partition that may be dropped; appendMu is held, so it stays so.
func (s *Store) droppable(part store.Part) (*partition, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.parts, func(p *partition) bool { return p.part == part })
	switch {
	case s.closed:
		return nil, store.ErrClosed
	case i < 0:
		return nil, store.ErrNoDay
	case s.parts[i] == s.cur:
		return nil, fmt.Errorf("%w: it is the one being written", store.ErrInUse)
	case s.parts[i].ofImport() && s.parts[i].canWrite():
		return nil, fmt.Errorf("%w: it is being imported", store.ErrInUse)
	}
	return s.parts[i], nil
}

// Rotate ends the partition being written and begins another one of its day. The new file
// has the hosts and the last batch's state from the start, so that after a restart it is
// the one being written, too.
func (s *Store) Rotate(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.opts.ReadOnly {
		return store.ErrReadOnly
	}
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	s.mu.Lock()
	closed, cur := s.closed, s.cur
	idle := cur == nil || len(cur.entries) == 0
	s.mu.Unlock()
	switch {
	case closed:
		return store.ErrClosed
	case idle:
		return nil
	}
	return s.rotate(cur, math.MaxInt64)
}

// endForMerge ends a partition whose day goes on, so that it can be merged; it does nothing where batches go to another meanwhile. The last hours
// of hosts' completeness stay such: they are still asked for.
func (s *Store) endForMerge(p *partition) error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	s.mu.Lock()
	closed, cur := s.closed, s.cur
	s.mu.Unlock()
	switch {
	case closed:
		return store.ErrClosed
	case cur != p:
		return nil
	}
	at := s.opts.now().UnixMilli()
	return s.rotate(p, at-at%ledger.Hour-keepHours)
}

// rotate is Rotate of cur, the partition that is written; see ended. appendMu is held.
func (s *Store) rotate(cur *partition, until int64) error {
	s.mu.Lock()
	st := s.state
	s.mu.Unlock()
	if err := s.beginPart(cur, &st); err != nil {
		return fmt.Errorf("rotate %s: %w", cur.part, err)
	}
	return s.ended(cur, until)
}

// ended makes of a partition one that no batch goes to any more, now that they go to another: it is opened to be read only, and
// listed with what it holds. Rows of hours become such of days where they end until a time. appendMu is held.
func (s *Store) ended(p *partition, until int64) error {
	s.fold(p, until)
	if err := p.reopen(false); err != nil {
		// Its events stay; they cannot be searched until it opens again.
		s.log.Error("sealing a partition", "partition", p.path, "error", err)
	}
	s.mu.Lock()
	sealed := p.listed()
	s.mu.Unlock()
	s.dig(p)
	s.unfollow(p)
	s.owe(p)
	s.partSealed()
	return s.list.seal(sealed)
}

// beginPart makes the successor of cur, with its hosts and with st as its state, and makes it
// the partition being written; appendMu is held.
func (s *Store) beginPart(cur *partition, st *store.State) error {
	part := s.nextPart(cur.part.Day)
	var hosts, followed []store.KV
	err := cur.view(func(tx *bbolt.Tx) error {
		if has, err := layout.DecodeState(tx.Bucket(layout.BucketMarks).Get(layout.KeyState)); err == nil && has.ID > st.ID {
			return fmt.Errorf("batch %d is in it, and was not said to be stored yet: try again", has.ID) // the next try is to find it: see put
		}
		hosts, followed = copyBucket(tx.Bucket(layout.BucketHosts)), trackers(tx)
		return nil
	})
	if err != nil {
		return err
	}
	p := s.newPart(part)
	p.id, p.place, p.beside = s.list.id, st.ID, sizeOf(hosts)+sizeOf(followed)
	err = p.create(func(tx *bbolt.Tx) error {
		bkt := tx.Bucket(layout.BucketHosts)
		bkt.FillPercent = hostsFill
		if err := putAll(bkt, hosts); err != nil {
			return err
		}
		if err := writeLedger(tx, nil, followed, false, nil); err != nil {
			return err
		}
		return tx.Bucket(layout.BucketMarks).Put(layout.KeyState, layout.EncodeState(st))
	})
	if err != nil {
		return err
	}
	if err := s.listNew(p); err != nil {
		return err
	}
	if err := p.reopen(true); err != nil {
		return err
	}
	s.addPart(p)
	s.mu.Lock()
	s.cur = p
	s.mu.Unlock()
	return nil
}

// addPart puts p into parts, which are replaced.
func (s *Store) addPart(p *partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts = append(slices.Clone(s.parts), p)
	sortParts(s.parts)
}
