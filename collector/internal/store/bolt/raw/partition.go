package raw

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/pages"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Partition is what can be read of a partition's file, as it was at one moment:
// everything but the groups' bytes, which are read when they are asked for.
type Partition struct {
	store.Part
	Path       string
	Size       int64      // of the file
	ID         seglog.ID  // of the store; zero: the file does not say it
	State      []byte     // as layout.DecodeState reads it
	Hosts      []store.KV // as layout.DecodeHost reads them, damaged ones too
	Ledger     []store.KV // by key, their checksums checked
	Seals      []store.KV // leaves of batches, by key, their checksums checked
	Import     string     // the import that it is of; "" for what senders sent
	Lacks      bool       // damage took some of what was imported
	Notes      []store.KV // what an import remembered with batches, by key, their checksums checked
	Groups     []Group    // by ID
	Findings   []Finding  // about its pages and values
	Incomplete bool       // there may be more of which nothing is known
	// Compacted is compaction's mark; nil where it did not make the partition. Then the IDs of groups are no batches.
	Compacted *layout.Compacted
	Filter    pages.Run // which values the groups have; Size 0: there is none

	file                *pages.File
	format, day, number []byte // marks, as they lie there
}

// Group is where a group lies in the file, and its catalogue entry.
type Group struct {
	ID     uint64
	At     pages.Run     // Size 0: its bytes could not be found
	Sum    group.Summary // by the catalogue
	Listed bool          // it is in the catalogue
	entry  []byte        // the catalogue's value
	from   int64         // where that lies in the file
}

// Open reads the tree of a partition's file. With free, it compares the list of free pages
// with the pages in use, too. An error that comes with a Partition (store.ErrDamaged: not
// even the tree could be read) leaves its file open: the caller closes it all the same.
func Open(path string, part store.Part, free bool) (*Partition, error) {
	f, err := pages.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	p := &Partition{Part: part, Path: path, Size: info.Size(), file: f}
	return p, p.read(free)
}

// Close closes the file.
func (p *Partition) Close() error { return p.file.Close() }

// read fills p from the file's tree, as it is at one moment; see pages.File.ReadTree.
func (p *Partition) read(free bool) error {
	return p.file.ReadTree(func(t *pages.Tree) error {
		*p = Partition{Part: p.Part, Path: p.Path, Size: p.Size, file: p.file}
		t.Found = p.found
		if err := t.CheckMeta(); err != nil {
			return err
		}
		groups := map[uint64]*Group{}
		seen := map[string]bool{}
		t.Walk(func(e *pages.Elem) {
			name := string(e.Key)
			if !e.Bucket {
				t.Damaged(e.At, "page %d: %.40q is not a bucket", e.Page, name)
				return
			}
			seen[name] = true
			p.readBucket(t, name, e, groups)
		})
		for _, name := range layout.PartitionBuckets {
			if !seen[string(name)] {
				t.Damaged(0, "no bucket %q", name)
			}
		}
		for _, id := range slices.Sorted(maps.Keys(groups)) {
			p.Groups = append(p.Groups, *groups[id])
		}
		if free {
			t.CheckFree()
		}
		p.Incomplete = t.Incomplete
		return nil
	})
}

// readMarks fills p with the file's marks only, and returns the transaction that they are of.
func (p *Partition) readMarks() (tx uint64, err error) {
	err = p.file.ReadTree(func(t *pages.Tree) error {
		*p = Partition{Part: p.Part, Path: p.Path, Size: p.Size, file: p.file}
		tx = t.Transaction()
		t.Walk(func(e *pages.Elem) {
			if e.Bucket && string(e.Key) == string(layout.BucketMarks) {
				t.WalkBucket(e, func(e *pages.Elem) { p.readMark(t, e) })
			}
		})
		return nil
	})
	return tx, err
}

// found adds a finding about the file's pages or values.
func (p *Partition) found(off int64, err error) {
	p.Findings = append(p.Findings, Finding{Path: p.Path, Offset: off, Block: -1, Err: err})
}

// readBucket reads one of the partition's buckets. groups collects, by ID, what the buckets of
// groups and of the catalogue have of each.
func (p *Partition) readBucket(t *pages.Tree, name string, e *pages.Elem, groups map[uint64]*Group) {
	of := func(key []byte) *Group {
		id := binary.BigEndian.Uint64(key)
		if groups[id] == nil {
			groups[id] = &Group{ID: id}
		}
		return groups[id]
	}
	switch name {
	case string(layout.BucketMarks):
		t.WalkBucket(e, func(e *pages.Elem) { p.readMark(t, e) })
	case string(layout.BucketGroups):
		t.WalkBucket(e, func(e *pages.Elem) {
			if len(e.Key) != 8 || !e.Bucket {
				t.Damaged(e.At, "page %d: %.40x is not a group", e.Page, e.Key)
				return
			}
			if at, ok := t.OnlyValue(e, layout.KeyGroup); ok {
				of(e.Key).At = at
			}
		})
	case string(layout.BucketCatalog):
		t.WalkBucket(e, func(e *pages.Elem) {
			sum, err := group.DecodeSummary(e.Value)
			if err != nil || len(e.Key) != 8 || e.Bucket {
				t.Damaged(e.At, "page %d: catalogue entry %.40x", e.Page, e.Key)
				return
			}
			g := of(e.Key)
			g.Sum, g.Listed, g.entry, g.from = sum, true, e.Value, e.Start()
		})
	case string(layout.BucketHosts):
		t.WalkBucket(e, func(e *pages.Elem) {
			if _, err := layout.DecodeHost(e.Key, e.Value); err != nil {
				t.Found(e.Start(), err)
			}
			p.Hosts = append(p.Hosts, store.KV{Key: e.Key, Value: e.Value})
		})
	case string(layout.BucketLedger):
		t.WalkBucket(e, func(e *pages.Elem) {
			if _, err := layout.CutSum(e.Key, e.Value); err != nil {
				t.Found(e.Start(), fmt.Errorf("ledger %.40q: %w", e.Key, err))
				return
			}
			p.Ledger = append(p.Ledger, store.KV{Key: e.Key, Value: e.Value})
		})
	case string(layout.BucketNotes):
		t.WalkBucket(e, func(e *pages.Elem) {
			if _, err := layout.DecodeNote(e.Key, e.Value); err != nil {
				t.Found(e.Start(), err)
				return
			}
			p.Notes = append(p.Notes, store.KV{Key: e.Key, Value: e.Value})
		})
	case string(layout.BucketSeal):
		t.WalkBucket(e, func(e *pages.Elem) {
			if _, err := layout.DecodeSeal(e.Key, e.Value); err != nil || len(e.Key) != 8 {
				t.Found(e.Start(), fmt.Errorf("leaf of batch %.40x: %w", e.Key, errors.Join(store.ErrDamaged, err)))
				return
			}
			p.Seals = append(p.Seals, store.KV{Key: e.Key, Value: e.Value})
		})
	case string(layout.BucketFilter):
		at, ok := t.OnlyValue(e, layout.KeyFilter)
		if p.Filter = at; !ok {
			t.Damaged(e.At, "page %d: the filter is not there", e.Page)
		}
	default:
		t.Damaged(e.At, "page %d: unknown bucket %.40q", e.Page, name)
	}
}

// readMark reads one of the marks.
func (p *Partition) readMark(t *pages.Tree, e *pages.Elem) {
	var err error
	switch string(e.Key) {
	case string(layout.KeyFormat):
		p.format = e.Value
	case string(layout.KeyDay):
		p.day = e.Value
	case string(layout.KeyPart):
		p.number = e.Value
	case string(layout.KeyStore):
		p.ID, err = layout.DecodeID(e.Value)
	case string(layout.KeyImport):
		p.Import, err = layout.DecodeImport(e.Value)
	case string(layout.KeyLacks):
		_, err = layout.CutSum(e.Key, e.Value)
		p.Lacks = true
	case string(layout.KeyState):
		p.State = e.Value
		if _, err = layout.DecodeState(e.Value); err != nil {
			err = fmt.Errorf("the writer's place in the journal: %w", err)
		}
	case string(layout.KeyCompacted):
		p.Compacted, err = layout.DecodeCompacted(e.Value)
	default:
		t.Damaged(e.At, "page %d: unknown mark %.40q", e.Page, e.Key)
	}
	if err != nil {
		t.Found(e.Start(), err)
	}
}

// LastImported returns the last batch that a partition of an import has, with events or without.
func (p *Partition) LastImported() (batch uint64) {
	if n := len(p.Groups); n > 0 {
		batch = p.Groups[n-1].ID
	}
	if n := len(p.Notes); n > 0 {
		batch = max(batch, binary.BigEndian.Uint64(p.Notes[n-1].Key))
	}
	return batch
}

// CheckPart compares what the file says it is with what its name says; store.ErrDamaged.
func (p *Partition) CheckPart() error { return layout.CheckPart(p.day, p.number, p.Part) }

// Bytes reads a group; nil when its bytes were not found.
func (p *Partition) Bytes(g *Group) ([]byte, error) {
	if g.At.Size == 0 {
		return nil, nil
	}
	b := make([]byte, g.At.Size)
	if _, err := p.file.ReadAt(b, g.At.Off); err != nil {
		return nil, fmt.Errorf("read group %d of %s: %w", g.ID, p.Path, err)
	}
	return b, nil
}

// Describe makes a catalogue entry for a group that has none, from the group's own summary.
// A group that cannot be opened stays without.
func (p *Partition) Describe(g *Group, c *group.Codec) {
	b, err := p.Bytes(g)
	if err != nil {
		return
	}
	if x, err := c.Open(b); err == nil {
		g.Sum, g.entry, g.Listed = x.Summary, x.Summary.Encode(), true
	}
}

const (
	// chunk is about how much of groups goes into one transaction of a copy.
	chunk = 32 << 20
	// boltTimeout is how long to wait for bbolt's own lock, which nobody has of a new file.
	boltTimeout = time.Second
	// allocBytes is what the copy grows by; bbolt's 16 MiB would be most of a small
	// fleet's day wherever holes are not kept.
	allocBytes = 1 << 20
)

// CopyTo writes a new partition to path, durably, from what p has. The bytes of groups never
// change, so they may be read from the file while a server writes later batches to it. The
// copy is synced once, at its end: an unfinished one is worth nothing. progress, when not
// nil, is called with the bytes of groups written since its last call.
func (p *Partition) CopyTo(ctx context.Context, path string, progress func(int64)) (err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: boltTimeout, FreelistType: bbolt.FreelistMapType, NoSync: true})
	if err != nil {
		return err
	}
	db.AllocSize = allocBytes
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Update(p.copyRest); err != nil {
		return err
	}
	for rest := p.Groups; len(rest) > 0; {
		n, size := 0, int64(0)
		for n < len(rest) && (n == 0 || size+rest[n].At.Size <= chunk) {
			size += rest[n].At.Size
			n++
		}
		err := db.Update(func(tx *bbolt.Tx) error {
			for i := range rest[:n] {
				if err := errors.Join(ctx.Err(), p.copyGroup(tx, &rest[i])); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if progress != nil {
			progress(size)
		}
		rest = rest[n:]
	}
	return db.Sync()
}

// copyRest writes everything but groups and catalogue.
func (p *Partition) copyRest(tx *bbolt.Tx) error {
	err := layout.NewPartition(tx, p.Part, p.ID)
	if err != nil {
		return err
	}
	hosts := tx.Bucket(layout.BucketHosts)
	for _, h := range p.Hosts {
		if err := hosts.Put(h.Key, h.Value); err != nil {
			return err
		}
	}
	if len(p.Ledger) > 0 {
		bkt, err := tx.CreateBucket(layout.BucketLedger)
		if err != nil {
			return err
		}
		for _, kv := range p.Ledger {
			if err := bkt.Put(kv.Key, kv.Value); err != nil {
				return err
			}
		}
	}
	if len(p.Seals) > 0 {
		bkt, err := tx.CreateBucket(layout.BucketSeal)
		if err != nil {
			return err
		}
		for _, kv := range p.Seals {
			if err := bkt.Put(kv.Key, kv.Value); err != nil {
				return err
			}
		}
	}
	if p.Import != "" {
		if err := tx.Bucket(layout.BucketMarks).Put(layout.KeyImport, layout.EncodeImport(p.Import)); err != nil {
			return err
		}
		if p.Lacks {
			if err := tx.Bucket(layout.BucketMarks).Put(layout.KeyLacks, layout.AddSum(layout.KeyLacks, nil)); err != nil {
				return err
			}
		}
		bkt, err := tx.CreateBucketIfNotExists(layout.BucketNotes)
		if err != nil {
			return err
		}
		for _, kv := range p.Notes {
			if err := bkt.Put(kv.Key, kv.Value); err != nil {
				return err
			}
		}
	}
	if len(p.State) > 0 {
		err = tx.Bucket(layout.BucketMarks).Put(layout.KeyState, p.State)
	}
	if err == nil {
		err = p.copyFilter(tx)
	}
	if err == nil && p.Compacted != nil {
		err = layout.PutCompacted(tx, p.Compacted)
	}
	return err
}

// copyFilter copies the filter, as it is: groups that the copy lacks are no harm, and damage hides nothing.
func (p *Partition) copyFilter(tx *bbolt.Tx) error {
	b, err := p.filterBytes()
	if b == nil || err != nil {
		return err
	}
	bkt, err := tx.CreateBucket(layout.BucketFilter)
	if err != nil {
		return err
	}
	return bkt.Put(layout.KeyFilter, b)
}

// filterBytes reads the filter; nil where there is none.
func (p *Partition) filterBytes() ([]byte, error) {
	if p.Filter.Size == 0 {
		return nil, nil
	}
	b := make([]byte, p.Filter.Size)
	if _, err := p.file.ReadAt(b, p.Filter.Off); err != nil {
		return nil, fmt.Errorf("read the filter of %s: %w", p.Path, err)
	}
	return b, nil
}

// copyGroup copies a group and its catalogue entry.
func (p *Partition) copyGroup(tx *bbolt.Tx, g *Group) error {
	key := layout.GroupKey(g.ID)
	if g.Listed {
		if err := tx.Bucket(layout.BucketCatalog).Put(key, g.entry); err != nil {
			return err
		}
	}
	b, err := p.Bytes(g)
	if b == nil || err != nil {
		return err // without bytes it is listed, and verify says that it is not there
	}
	bkt, err := tx.Bucket(layout.BucketGroups).CreateBucket(key)
	if err != nil {
		return err
	}
	return bkt.Put(layout.KeyGroup, b)
}
