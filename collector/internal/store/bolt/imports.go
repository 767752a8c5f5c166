package bolt

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// The group of an import's batch, its leaf and its note go into a partition of the import's own,
// by one transaction. That transaction is what stores the batch: it moves no place in the journal,
// so nothing of a writer's has to agree with it. A second one, in the partition that senders'
// batches go to, then says that the batch is the last. A crash in between leaves a partition of an
// import that is ahead of the writer's place: from the next Open on the place has that batch's ID, and
// LSN and open events as they were.

var _ store.Importer = (*Store)(nil)

// importBytes is what a partition of an import holds before the import goes on in another one.
const importBytes = 4 << 30

// ofImport reports whether the partition has an import's batches. Such a partition never has a
// writer's place, nor hosts, nor a ledger.
func (p *partition) ofImport() bool { return p.imported != "" }

// putImport runs the transaction that stores a batch of an import. It may have been run before,
// and its commit may have got an error. appendMu is held.
func (s *Store) putImport(b *store.Batch, blob []byte, sum *group.Summary, root eventtree.Hash) (*partition, error) {
	p, err := s.importPart(b)
	if err != nil {
		return nil, err
	}
	leaf, err := s.leafOf(p, b, blob, sum, root)
	if err != nil {
		return nil, err
	}
	key := layout.GroupKey(b.ID)
	return p, p.update(func(tx *bbolt.Tx) error {
		notes, err := tx.CreateBucketIfNotExists(layout.BucketNotes)
		if err == nil {
			err = notes.Put(key, layout.EncodeNote(b.ID, b.Import.Note))
		}
		if err == nil {
			err = putLeaf(tx, b.ID, leaf)
		}
		if err != nil || blob == nil {
			return err
		}
		bkt, err := tx.Bucket(layout.BucketGroups).CreateBucketIfNotExists(key)
		if err == nil {
			err = bkt.Put(layout.KeyGroup, blob)
		}
		if err == nil {
			err = tx.Bucket(layout.BucketCatalog).Put(key, sum.Encode())
		}
		return err
	})
}

// importPart returns the partition that the import goes on in, opened to be written; it makes one
// where there is none, or the last one is full. appendMu is held.
func (s *Store) importPart(b *store.Batch) (*partition, error) {
	if err := store.CheckImport(b.Import.Name); err != nil {
		return nil, err
	}
	var p *partition
	full := false
	s.mu.Lock()
	for _, x := range s.parts {
		if x.imported == b.Import.Name && (p == nil || x.place > p.place) {
			p = x
		}
	}
	if p != nil {
		size := uint64(0)
		for i := range p.entries {
			size += p.entries[i].sum.Bytes
		}
		full = size >= s.opts.importBytes
	}
	s.mu.Unlock()
	if p != nil && !full {
		return p, p.reopen(true)
	}
	if p != nil {
		if err := s.endPart(p); err != nil {
			return nil, err
		}
	}
	if s.version < layout.ImportVersion { // before the first file that older programs do not know
		if err := layout.WriteMarker(s.opts.Dir, layout.ImportVersion); err != nil {
			return nil, err
		}
		s.version = layout.ImportVersion
	}
	p = s.newPart(s.nextPart(b.Day))
	p.id, p.imported = s.list.id, b.Import.Name
	err := p.create(func(tx *bbolt.Tx) error {
		return tx.Bucket(layout.BucketMarks).Put(layout.KeyImport, layout.EncodeImport(b.Import.Name))
	})
	if err != nil {
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

// storedImport makes a batch of an import known to searches; appendMu is held, and advance follows.
func (s *Store) storedImport(p *partition, b *store.Batch, blob []byte, sum *group.Summary) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if blob != nil {
		p.stored(b.ID, sum)
	}
	p.place, p.brought = b.ID, s.opts.now()
}

// checkImport reads what only a partition of an import has: its name, the last batch that it
// has, which is the last note's, and when that came.
func (p *partition) checkImport(tx *bbolt.Tx) (err error) {
	if p.imported, err = layout.DecodeImport(tx.Bucket(layout.BucketMarks).Get(layout.KeyImport)); err != nil || !p.ofImport() {
		return err
	}
	p.lacks = tx.Bucket(layout.BucketMarks).Get(layout.KeyLacks) != nil
	p.place, p.brought = p.lastEntry(), time.Now()
	if info, err := os.Stat(p.path); err == nil {
		p.brought = info.ModTime()
	}
	if notes := tx.Bucket(layout.BucketNotes); notes != nil {
		if k, _ := notes.Cursor().Last(); len(k) == 8 {
			p.place = max(p.place, binary.BigEndian.Uint64(k))
		}
	}
	return nil
}

// passStored moves the writer's place behind all batches that are known to have been stored: those of imports, and those that compaction has
// written again. Open alone calls it, once the last batch of senders is known. The ID alone moves: see above. Where
// the partition that had the last place is lost, no ID is used twice by that.
func (s *Store) passStored() {
	s.keptID = s.state.ID
	for _, p := range s.parts {
		if p.ofImport() || p.compacted != nil {
			s.state.ID = max(s.state.ID, p.place)
		}
		if p.compacted == nil {
			continue
		}
		s.state.ID = max(s.state.ID, p.compacted.Last)
		for _, src := range p.compacted.Sources {
			s.state.ID = max(s.state.ID, src.Last)
		}
	}
}

// keepID has a senders' partition say that the last batch is the one that it is, where no transaction has
// said so yet: a partition of an import may go, and IDs must not be used again. appendMu is held, or Open calls it.
func (s *Store) keepID() error {
	s.mu.Lock()
	st, cur := s.state, s.cur
	s.mu.Unlock()
	if st.ID <= s.keptID {
		return nil
	}
	day := store.DayOf(s.opts.now())
	if cur != nil {
		day = cur.part.Day
	}
	b := &store.Batch{ID: st.ID, Day: day, LSN: st.LSN, Open: st.Open}
	var err error
	if b.Hosts, err = s.uncounted(cur); err != nil {
		return fmt.Errorf("count what was imported: %w", err)
	}
	p, err := s.put(b, nil, nil, eventtree.Hash{}, nil)
	if err != nil {
		return fmt.Errorf("keep the last batch's number: %w", err)
	}
	return s.advance(p, b, nil, nil)
}

// uncounted returns the hosts of imports' batches that no transaction of a senders' partition knows of: each as it is known
// in cur, with the records of those batches. The importer's own count of them is lost with that transaction.
func (s *Store) uncounted(cur *partition) ([]store.Host, error) {
	records := map[string]uint64{}
	for _, p := range s.parts {
		for i := len(p.entries) - 1; p.ofImport() && i >= 0 && p.entries[i].id > s.keptID; i-- {
			err := p.withGroup(p.entries[i].id, func(g *group.Group) error {
				return g.Counts(func(host string, _, n uint64) { records[host] += n })
			})
			if errors.Is(err, store.ErrDamaged) {
				continue // searches say so
			}
			if err != nil {
				return nil, err
			}
		}
	}
	known := map[string]store.Host{}
	if cur != nil && len(records) > 0 {
		hosts, _, err := cur.loadHosts()
		if err != nil {
			return nil, err
		}
		for _, h := range hosts {
			known[h.Name] = h
		}
	}
	var out []store.Host
	for _, name := range slices.Sorted(maps.Keys(records)) {
		h := known[name]
		h.Name, h.Records = name, h.Records+records[name]
		out = append(out, h)
	}
	return out, nil
}

// endPart opens an import's partition to be read only, and lists what it has. appendMu is held.
func (s *Store) endPart(p *partition) error {
	if !p.canWrite() {
		return nil
	}
	if err := p.reopen(false); err != nil {
		return err
	}
	s.dig(p)
	s.mu.Lock()
	listed := p.listed()
	s.mu.Unlock()
	s.partSealed()
	return s.list.seal(listed)
}

// importParts returns the partitions of an import, oldest first.
func (s *Store) importParts(name string) (list []*partition, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, store.ErrClosed
	}
	for _, p := range s.parts {
		if p.ofImport() && p.imported == name {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b *partition) int { return cmp.Compare(a.place, b.place) })
	return list, nil
}

// EndImport implements store.Importer.
func (s *Store) EndImport(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	list, err := s.importParts(name)
	for _, p := range list {
		err = errors.Join(err, s.endPart(p))
	}
	if err != nil {
		return fmt.Errorf("end import %s: %w", name, err)
	}
	return nil
}

// eachImported calls fn with the parts of an import, oldest first, or with those of all. They can be read meanwhile, also where they are
// dropped or compaction exchanges them.
func (s *Store) eachImported(ctx context.Context, name string, fn func(v *partView) error) (err error) {
	sn, err := s.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sn.Close()) }()
	list := slices.DeleteFunc(slices.Clone(sn.(*snapshot).parts), func(v partView) bool { return !v.p.ofImport() || name != "" && v.p.imported != name })
	slices.SortFunc(list, func(a, b partView) int { return cmp.Compare(a.place, b.place) })
	for i := range list {
		if err := fn(&list[i]); err != nil {
			return fmt.Errorf("import %s: %w", list[i].p.imported, err)
		}
	}
	return nil
}

// Imports implements store.Importer.
func (s *Store) Imports(ctx context.Context) ([]store.Imported, error) {
	by := map[string]*store.Imported{}
	err := s.eachImported(ctx, "", func(v *partView) error {
		x := by[v.p.imported]
		if x == nil {
			x = &store.Imported{Name: v.p.imported}
			by[x.Name] = x
		}
		d := v.stats()
		x.Parts = append(x.Parts, d.Part)
		x.Events, x.Records, x.RawBytes, x.DiskBytes = x.Events+d.Events, x.Records+d.Records, x.RawBytes+d.RawBytes, x.DiskBytes+d.DiskBytes
		if d.MinMs != 0 && (x.MinMs == 0 || d.MinMs < x.MinMs) {
			x.MinMs = d.MinMs
		}
		x.MaxMs, x.Last = max(x.MaxMs, d.MaxMs), max(x.Last, v.place)
		x.Writing, x.Lacks = x.Writing || v.p.canWrite(), x.Lacks || v.p.lacks
		first, err := v.p.firstNote()
		if first > 0 && (x.First == 0 || first < x.First) {
			x.First = first
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var out []store.Imported
	for _, x := range by {
		out = append(out, *x)
	}
	slices.SortFunc(out, func(a, b store.Imported) int { return cmp.Compare(a.First, b.First) })
	return out, nil
}

// firstNote returns the first batch that a partition has a note of; 0 where it has none.
func (p *partition) firstNote() (batch uint64, err error) {
	if batch = p.first.Load(); batch > 0 { // it stays the first
		return batch, nil
	}
	err = p.view(func(tx *bbolt.Tx) error {
		if notes := tx.Bucket(layout.BucketNotes); notes != nil {
			if k, _ := notes.Cursor().First(); len(k) == 8 {
				batch = binary.BigEndian.Uint64(k)
			}
		}
		return nil
	})
	p.first.Store(batch)
	return batch, err
}

// ImportNotes implements store.Importer. A note that is damaged is passed over, with a line in the log.
func (s *Store) ImportNotes(ctx context.Context, name string, fn func(batch uint64, note []byte) error) error {
	return s.eachImported(ctx, name, func(v *partView) error {
		return v.p.view(func(tx *bbolt.Tx) error {
			notes := tx.Bucket(layout.BucketNotes)
			if notes == nil {
				return nil
			}
			return notes.ForEach(func(k, val []byte) error {
				note, err := layout.DecodeNote(k, val)
				if err != nil {
					s.log.Error("what an import remembered with a batch cannot be read: files that it had read are read again, and nothing of them is stored twice", "partition", v.p.path, "error", err)
					return nil
				}
				return errors.Join(ctx.Err(), fn(binary.BigEndian.Uint64(k), note))
			})
		})
	})
}

// UndoImport implements store.Importer. What a crash leaves of the import is dropped by another call.
func (s *Store) UndoImport(ctx context.Context, name, why string) (done store.Undone, err error) {
	if s.opts.ReadOnly {
		return done, store.ErrReadOnly
	}
	s.appendMu.Lock() // no batch comes meanwhile, and compaction exchanges no part
	defer s.appendMu.Unlock()
	if done, err = s.undoImport(ctx, name, why); err != nil {
		err = fmt.Errorf("take back import %s: %w", name, err)
	}
	return done, err
}

// undoImport is UndoImport with appendMu held.
func (s *Store) undoImport(ctx context.Context, name, why string) (done store.Undone, err error) {
	list, err := s.importParts(name)
	if err != nil {
		return done, err
	}
	moved := s.list.file.Content()
	done.Stays = moved.Moved(name)
	switch {
	case len(list) == 0 && done.Stays > 0:
		return done, fmt.Errorf("%w: all that is left of it, %d events, has gone to the days in which they happened", store.ErrNoImport, done.Stays)
	case len(list) == 0:
		return done, store.ErrNoImport
	case slices.ContainsFunc(list, (*partition).canWrite):
		return done, fmt.Errorf("%w: it is being imported", store.ErrInUse)
	}
	for _, p := range slices.Backward(list) { // the first one has how it began
		if err := ctx.Err(); err != nil {
			return done, err
		}
		s.mu.Lock()
		was := p.now()
		s.mu.Unlock()
		records := was.stats().Records
		if err := s.dropLocked(p.part, why, false); err != nil {
			return done, err
		}
		done.Records += records
	}
	return done, nil
}
