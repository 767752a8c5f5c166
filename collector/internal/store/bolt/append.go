package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// Append stores a batch: its group, its catalogue entry, its leaf, the hosts that changed and the
// writer's state, in one transaction of the day's partition. The senders are written
// before, in their own file: after a crash in between they are newer than the state, which
// is harmless, since what the journal replays is no resend to them. A partition that turns
// out to be damaged is repaired, and the transaction tried once more. The group of an import's batch
// goes to a partition of its own before: see putImport.
func (s *Store) Append(ctx context.Context, b *store.Batch) error {
	if s.opts.ReadOnly {
		return store.ErrReadOnly
	}
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	last, err := s.lastBatch()
	switch {
	case err != nil:
		return err
	case b.ID <= last:
		return nil
	case b.ID != last+1:
		return fmt.Errorf("append batch %d after %d: %w", b.ID, last, store.ErrGap)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var blob []byte
	var sum group.Summary
	var root eventtree.Hash
	var division *store.Division
	if b.Events != nil && b.Events.Stats().Events > 0 {
		if classes := s.dividing(); len(classes) > 0 {
			division = b.Events.Divide(classes)
			blob, sum, root, err = s.codec.EncodeDivided(b.Events, division, s.proves.Load() && keepsSeal)
		} else if s.proves.Load() && keepsSeal {
			blob, sum, root, err = s.codec.EncodeWithRoot(b.Events)
		} else {
			blob, sum, err = s.codec.Encode(b.Events)
		}
		if err != nil {
			return fmt.Errorf("append batch %d: %w", b.ID, err)
		}
	}
	// Before the batch: see senders. Put twice, after a failure below, they are the same.
	err = s.senders.put(b.Senders)
	if errors.Is(err, store.ErrDamaged) {
		if err = s.renewSenders(err); err == nil {
			err = s.senders.put(b.Senders)
		}
	}
	if err != nil {
		return fmt.Errorf("append batch %d: %w", b.ID, err)
	}
	if len(b.Forget) > 0 {
		if err := s.list.forgot(); err != nil {
			return fmt.Errorf("append batch %d: %w", b.ID, err)
		}
	}
	var home *partition // of an import's batch
	events := blob
	if b.Import != nil {
		home, err = s.putImport(b, blob, &sum, root)
		if errors.Is(err, store.ErrDamaged) && s.repairFor(b.Day, err) {
			home, err = s.putImport(b, blob, &sum, root)
		}
		if err != nil {
			return fmt.Errorf("append batch %d of import %s: %w", b.ID, b.Import.Name, err)
		}
		blob = nil
	}
	var classes []layout.Received
	if division != nil {
		classes = classesReceived(b, division)
	}
	p, err := s.put(b, blob, &sum, root, classes)
	if errors.Is(err, store.ErrDamaged) && s.repairFor(b.Day, err) {
		p, err = s.put(b, blob, &sum, root, classes)
	}
	if err != nil {
		return fmt.Errorf("append batch %d: %w", b.ID, err)
	}
	if home != nil { // before advance, from which on snapshots have it
		s.storedImport(home, b, events, &sum)
	}
	if err := s.advance(p, b, blob, &sum); err != nil {
		// The batch is stored all the same. The manifest lacks only that the partition
		// before is sealed; the next start lists it so.
		s.log.Warn("the manifest", "error", err)
	}
	return nil
}

// lastBatch returns the ID of the last batch; ErrClosed after Close.
func (s *Store) lastBatch() (id uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		err = store.ErrClosed
	}
	return s.state.ID, err
}

// advance makes a stored batch the last one, in memory: from now on State is its and every
// Snapshot has its events. When p is another partition than the last batch's, that one is
// sealed. appendMu is held.
func (s *Store) advance(p *partition, b *store.Batch, blob []byte, sum *group.Summary) error {
	s.mu.Lock()
	old := s.cur
	s.cur = p
	s.state.ID, s.state.LSN, s.state.Open = b.ID, b.LSN, slices.Clone(b.Open)
	if blob != nil {
		p.stored(b.ID, sum)
		if s.lastOf == nil {
			s.lastOf = map[store.Day]uint64{}
		}
		s.lastOf[b.Day] = b.ID
	}
	p.place = b.ID
	s.mu.Unlock()
	s.keptID = b.ID
	if old == nil || old == p {
		return nil
	}
	return s.ended(old, math.MaxInt64)
}

// stored makes a batch's group one of the partition's, which has it already where the file was read again, to be repaired, since an earlier
// try to store it. Store.mu is held.
func (p *partition) stored(id uint64, sum *group.Summary) {
	if p.lastEntry() != id {
		p.entries = append(slices.Clone(p.entries), entry{id, *sum}) // a new list: snapshots have the old one
	}
}

// put runs a batch's transaction in the day's partition, which is made when there is none. It may have been run before, and its commit
// may have got an error though it is there: of the last sync, where that was refused or the disk's answer was lost. It is
// not done twice then, and is durable once this one is: its data were before its last page. appendMu is held.
func (s *Store) put(b *store.Batch, blob []byte, sum *group.Summary, root eventtree.Hash, classes []layout.Received) (*partition, error) {
	p, err := s.writable(b.Day)
	if err != nil {
		return nil, err
	}
	all, followed, moved, err := s.carry(p)
	if err != nil {
		return nil, err
	}
	folded := s.folded
	leaf, err := s.leafOf(p, b, blob, sum, root)
	if err != nil {
		return nil, err
	}
	err = p.update(func(tx *bbolt.Tx) error {
		if st, err := layout.DecodeState(tx.Bucket(layout.BucketMarks).Get(layout.KeyState)); err == nil && st.ID == b.ID {
			return nil
		}
		if err := putLeaf(tx, b.ID, leaf); err != nil {
			return err
		}
		if meta := tx.Bucket(layout.BucketMarks); meta.Get(layout.KeyStore) == nil {
			if err := layout.PutID(meta, s.list.id); err != nil { // begun before the store had one
				return err
			}
		}
		if s.elsewhere.Load() { // before the rest of the ledger: see writeLedger
			if err := addReceived(tx, b.Day, b.Ledger, classes); err != nil {
				return err
			}
		}
		if err := writeLedger(tx, b.Ledger, followed, moved, b.Forget); err != nil {
			return err
		}
		if folded, err = foldOld(tx, b, s.folded); err != nil {
			return err
		}
		return write(tx, b, blob, sum, all, moved)
	})
	if err == nil {
		s.folded = folded
		p.beside += sizeOf(all) + sizeOf(followed)
	}
	return p, err
}

// repairFor repairs the partitions that a batch of the day needs (those of the day, and the one
// of the last batch) after cause said that one of them is damaged. It returns true when
// something was repaired or set aside, so that the batch may be tried again. A partition
// that could not be put back is taken out of parts. appendMu is held, s.mu is not.
func (s *Store) repairFor(day store.Day, cause error) bool {
	s.mu.Lock()
	var list []*partition
	for _, p := range s.parts {
		if p.part.Day == day || p == s.cur || p.ofImport() {
			list = append(list, p)
		}
	}
	st, cur := s.state, s.cur
	s.mu.Unlock()
	mended := false
	for _, p := range list {
		if !strings.Contains(cause.Error(), p.path) {
			continue
		}
		var place *store.State
		if p == cur {
			place = &st
		}
		back, err := s.repair(p, cause, place)
		if err != nil {
			s.log.Error("a damaged partition cannot be repaired", "partition", p.path, "error", err)
		}
		if !back {
			s.mu.Lock()
			s.parts = slices.DeleteFunc(slices.Clone(s.parts), func(x *partition) bool { return x == p })
			if s.cur == p {
				s.cur = nil
			}
			s.mu.Unlock()
		}
		mended = mended || err == nil
	}
	return mended
}

// writable returns the day's partition, the last one where there are several, opened to
// be written; it makes one where there is none to which batches go: none goes to one that compaction
// has made, nor to one that has passed on some of what it knows: it is being dropped. appendMu is held. A new file is listed in
// the manifest once it has its name and before anything goes into it.
func (s *Store) writable(day store.Day) (*partition, error) {
	var p *partition
	s.mu.Lock()
	for _, x := range s.parts {
		if x.part.Day == day && x.compacted == nil && !x.ofImport() {
			p = x
		}
	}
	parts, cur := s.parts, s.cur
	s.mu.Unlock()
	if p != nil && (p == cur || !passesOn(parts, p)) {
		return p, p.reopen(true)
	}
	p = s.newPart(s.nextPart(day))
	p.id = s.list.id
	if err := p.create(nil); err != nil {
		return nil, err
	}
	if err := s.listNew(p); err != nil {
		return nil, err
	}
	if err := p.reopen(true); err != nil {
		return nil, err
	}
	s.addPart(p)
	return p, nil
}

// carry returns the hosts, and what the ledger follows of them, to be copied into p, and true,
// when the last batch went to another partition: what is known of hosts is always complete in
// the partition of the last batch.
func (s *Store) carry(p *partition) (hosts, followed []store.KV, moved bool, err error) {
	s.mu.Lock()
	cur := s.cur
	s.mu.Unlock()
	if cur == nil || cur == p {
		return nil, nil, false, nil
	}
	err = cur.view(func(tx *bbolt.Tx) error {
		hosts, followed = copyBucket(tx.Bucket(layout.BucketHosts)), trackers(tx)
		return nil
	})
	return hosts, followed, true, err
}

// copyBucket copies a bucket's keys and values, so that they outlive the transaction.
func copyBucket(b *bbolt.Bucket) []store.KV {
	var out []store.KV
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		out = append(out, store.KV{Key: bytes.Clone(k), Value: bytes.Clone(v)})
	}
	return out
}

// write does a batch's changes within tx: all or none of them are durable when it commits.
// With moved, all replaces what is known of hosts before b changes it; blob is nil for a
// batch without events.
func write(tx *bbolt.Tx, b *store.Batch, blob []byte, sum *group.Summary, all []store.KV, moved bool) error {
	if moved {
		if err := tx.DeleteBucket(layout.BucketHosts); err != nil {
			return err
		}
		bkt, err := tx.CreateBucket(layout.BucketHosts)
		if err != nil {
			return err
		}
		bkt.FillPercent = hostsFill
		if err := putAll(bkt, all); err != nil {
			return err
		}
	}
	if blob != nil {
		// A bucket of its own for each group: its pages are not written again when others
		// are added.
		bkt, err := tx.Bucket(layout.BucketGroups).CreateBucket(layout.GroupKey(b.ID))
		if err != nil {
			return err
		}
		if err := bkt.Put(layout.KeyGroup, blob); err != nil {
			return err
		}
		if err := tx.Bucket(layout.BucketCatalog).Put(layout.GroupKey(b.ID), sum.Encode()); err != nil {
			return err
		}
	}
	hosts := tx.Bucket(layout.BucketHosts)
	hosts.FillPercent = hostsFill
	for _, name := range b.Forget {
		if err := hosts.Delete(layout.HostKey(name)); err != nil {
			return fmt.Errorf("host %.80q: %w", name, err)
		}
	}
	for i := range b.Hosts {
		if err := hosts.Put(layout.HostKey(b.Hosts[i].Name), layout.EncodeHost(&b.Hosts[i])); err != nil {
			return fmt.Errorf("host %.80q: %w", b.Hosts[i].Name, err)
		}
	}
	return tx.Bucket(layout.BucketMarks).Put(layout.KeyState, layout.EncodeState(&store.State{ID: b.ID, LSN: b.LSN, Open: b.Open}))
}

// loadState reads the writer's place as the partition has it, without hosts and senders;
// the zero State where it has none.
func (p *partition) loadState() (st *store.State, err error) {
	err = p.view(func(tx *bbolt.Tx) error {
		st, err = layout.DecodeState(tx.Bucket(layout.BucketMarks).Get(layout.KeyState))
		return err
	})
	return st, err
}

// loadHosts reads what is known of hosts. Entries that are damaged are left out; bad says
// which.
func (p *partition) loadHosts() (hosts []store.Host, bad, err error) {
	err = p.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(layout.BucketHosts).ForEach(func(k, v []byte) error {
			h, err := layout.DecodeHost(k, v)
			if errors.Is(err, store.ErrDamaged) {
				bad = errors.Join(bad, fmt.Errorf("%s: %w", p.path, err))
				return nil
			}
			hosts = append(hosts, h)
			return err
		})
	})
	return hosts, bad, err
}
