package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/rewrite"
)

// How rewritten partitions take the place of what they were made of, so that after a crash at any point the store has
// each event once:
//
//  1. Each is written to NAME.db.tmp, synced, and read again. A start removes such files.
//  2. The first of them gets what the sources have beside events.
//  3. All leaves of the sources' batches are in the log of what was stored, and then that they are rewritten.
//  4. They get their names. A start finds them not listed and the sources listed, and removes them.
//  5. One change of the manifest lists them, takes the sources off and notes these as replaced. This is the moment.
//  6. The sources' files are deleted. A start finds them noted as replaced, and removes them.

// errChanged is returned when a source is not what it was when it was read: a batch went to it, or it was
// dropped, meanwhile.
var errChanged = errors.New("it was changed meanwhile")

// replacement is what was made of partitions, before it takes their place.
type replacement struct {
	sources []*partition
	entries [][]entry // of each source, as it was read
	places  []uint64  // of each source likewise, as the files say that were made
	parts   []store.Part
	over    bool          // the day is: rows of hours are no longer asked for
	pace    *rewrite.Pace // of what is read for it
	// version is the bbolt transaction of each source that putRest has read; nil before.
	version []int
}

// tmpPath returns the name that a file has until it is whole.
func (s *Store) tmpPath(part store.Part) string {
	return layout.PartitionPath(s.opts.Dir, part) + ".tmp"
}

// putRest writes into the first of the made files what the sources have beside events: hosts, ledger, leaves and
// the writer's place. It may be called again.
func (s *Store) putRest(r *replacement) error {
	path := s.tmpPath(r.parts[0])
	db, err := openBolt(path, true)
	if err != nil {
		return err
	}
	r.version = make([]int, len(r.sources))
	// The sources stay open until the transaction is committed: what is put into it is their bytes.
	err = viewAll(r.sources, nil, func(from []*bbolt.Tx) error {
		for i, tx := range from {
			r.version[i] = tx.ID()
		}
		return guard(path, func() error {
			return db.Update(func(to *bbolt.Tx) error {
				if err := copyRest(to, from); err != nil || !r.over {
					return err
				}
				return foldLedger(to, math.MaxInt64)
			})
		})
	})
	return errors.Join(err, db.Close())
}

// viewAll runs a read transaction of all partitions together.
func viewAll(parts []*partition, have []*bbolt.Tx, fn func([]*bbolt.Tx) error) error {
	if len(parts) == 0 {
		return fn(have)
	}
	return parts[0].view(func(tx *bbolt.Tx) error { return viewAll(parts[1:], append(have, tx), fn) })
}

// unchanged returns nil when the sources are what was read of them; appendMu is held, so they stay it.
func (s *Store) unchanged(r *replacement) error {
	s.mu.Lock()
	parts, cur, closed := s.parts, s.cur, s.closed
	s.mu.Unlock()
	if closed {
		return store.ErrClosed
	}
	for i, src := range r.sources {
		if !slices.Contains(parts, src) || src == cur || !sameList(src.entries, r.entries[i]) || src.place != r.places[i] {
			return fmt.Errorf("%s: %w", src.part, errChanged)
		}
		version := 0
		err := src.view(func(tx *bbolt.Tx) error { version = tx.ID(); return nil })
		if err != nil {
			return err
		}
		if version != r.version[i] {
			return fmt.Errorf("%s: %w", src.part, errChanged)
		}
	}
	return beingDropped(parts, r.sources)
}

// beingDropped returns an error where one of the sources has passed on some of what it knows: a drop of it was cut short. Each partition is
// looked at once, for writers wait meanwhile; one that cannot be read cannot be gone on with, as in heirOf.
func beingDropped(parts, sources []*partition) error {
	for _, x := range parts {
		var of *partition
		err := x.view(func(tx *bbolt.Tx) error {
			for _, src := range sources {
				if _, some := passed(tx, src.mark()); some && x != src {
					of = src
				}
			}
			return nil
		})
		if err == nil && of != nil {
			return fmt.Errorf("%s: %w: it is being dropped", of.part, errChanged)
		}
	}
	return nil
}

// sameList reports whether two lists of groups are the same one.
func sameList(a, b []entry) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// replace puts what was made in the place of its sources: see above. After an error the sources count, and
// what was made is removed.
func (s *Store) replace(ctx context.Context, r *replacement) (err error) {
	if err := s.putRest(r); err != nil {
		return err
	}
	if err := s.asSealed(ctx, r.sources, r.pace); err != nil {
		return err
	}
	sealed, err := s.describeFiles(ctx, r.parts, r.pace)
	if err != nil {
		return err
	}
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	err = s.unchanged(r)
	if errors.Is(err, errChanged) { // of its ledger alone, it may be: then that is read again
		if err = s.putRest(r); err == nil {
			err = s.unchanged(r)
		}
	}
	if err != nil {
		return err
	}
	if err := s.keepID(); err != nil { // a source may be an import's
		return err
	}
	if s.version < layout.CompactedVersion {
		if err := layout.WriteMarker(s.opts.Dir, layout.CompactedVersion); err != nil {
			return err
		}
		s.version = layout.CompactedVersion
	}
	if err := s.sealRewritten(r.sources, sealed); err != nil {
		return err
	}
	made, err := s.named(r)
	if err != nil {
		return err
	}
	for _, src := range r.sources { // kept open: see Drop
		if err := src.openAgain(true); err != nil {
			return errors.Join(err, s.undo(r, made))
		}
	}
	if err := s.list.replace(r.sources, made); err != nil {
		return errors.Join(err, s.undo(r, made))
	}
	s.exchange(r.sources, made)
	for _, src := range r.sources {
		if err := s.opts.fs.Remove(src.path); err != nil {
			s.log.Warn("a partition that was rewritten cannot be deleted; the next start tries again", "partition", src.path, "error", err)
		}
	}
	if err := s.opts.fs.SyncDir(filepath.Join(s.opts.Dir, layout.Partitions)); err != nil {
		s.log.Warn("the folder of partitions", "error", err)
	}
	return nil
}

// named gives the made files their names and opens them.
func (s *Store) named(r *replacement) (made []*partition, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.unname(made))
		}
	}()
	for _, part := range r.parts {
		p := s.newPart(part)
		if err := s.opts.fs.Rename(s.tmpPath(part), p.path); err != nil {
			return made, err
		}
		made = append(made, p)
		if err := p.open(); err != nil {
			return made, err
		}
		st, err := p.loadState()
		if err != nil {
			return made, err
		}
		p.place = p.placeBy(st)
	}
	return made, s.opts.fs.SyncDir(filepath.Join(s.opts.Dir, layout.Partitions))
}

// undo leaves the sources as they were, and removes what was made. A manifest that could not be written may be the old one
// or the new one, so it is written once more as it was; where that fails, too, all files stay: a start goes by what it finds.
func (s *Store) undo(r *replacement, made []*partition) error {
	for _, src := range r.sources {
		if err := src.pause(); err != nil {
			s.log.Warn("closing a partition", "partition", src.path, "error", err)
		}
	}
	if err := s.list.file.Write(); err != nil {
		for _, p := range made {
			err = errors.Join(err, p.close())
			s.compacting.left = append(s.compacting.left, p.path)
		}
		return err
	}
	return s.unname(made)
}

// removeLeft removes what undo had to leave, once the manifest can be written: then it certainly does not list it.
func (s *Store) removeLeft() error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	if len(s.compacting.left) == 0 {
		return nil
	}
	if _, err := s.lastBatch(); err != nil { // closed: the next start judges them
		return err
	}
	if err := s.list.file.Write(); err != nil {
		return err
	}
	for len(s.compacting.left) > 0 {
		if err := s.opts.fs.Remove(s.compacting.left[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.compacting.left = s.compacting.left[1:]
	}
	return s.opts.fs.SyncDir(filepath.Join(s.opts.Dir, layout.Partitions))
}

// unname removes files that came to nothing.
func (s *Store) unname(made []*partition) error {
	var errs []error
	for _, p := range made {
		err := s.opts.fs.Remove(p.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.compacting.left = append(s.compacting.left, p.path)
		}
		errs = append(errs, p.close(), err)
	}
	return errors.Join(errs...)
}

// exchange has searches that begin from now on read the made partitions; those that have begun go on reading the sources.
// appendMu is held.
func (s *Store) exchange(sources, made []*partition) {
	sizes := make([]uint64, len(sources))
	for i, src := range sources {
		sizes[i] = (&partView{p: src}).stats().DiskBytes
	}
	var unused []*partition
	s.mu.Lock()
	s.parts = slices.DeleteFunc(slices.Clone(s.parts), func(p *partition) bool { return slices.Contains(sources, p) })
	s.parts = append(s.parts, made...)
	sortParts(s.parts)
	for i, src := range sources {
		s.forgetUnreadable(src)
		src.dropped = true
		if src.refs == 0 {
			unused = append(unused, src)
			continue
		}
		src.lingers = sizes[i]
		s.lingering += sizes[i]
	}
	s.mu.Unlock()
	for _, src := range unused {
		if err := src.close(); err != nil {
			s.log.Warn("closing a partition that was rewritten", "partition", src.path, "error", err)
		}
	}
}

// replace lists what was made, and takes off what it was made of.
func (l *listing) replace(sources, made []*partition) error {
	return l.file.Update(func(c *manifest.Content) {
		var by []string
		for _, p := range made {
			is := p.listed()
			by = append(by, is.Name)
			c.Set(is)
			c.Number(p.part.Day.String(), p.part.N)
		}
		for _, src := range sources {
			c.Replace(src.listed(), src.imported, by, now())
			c.Number(src.part.Day.String(), src.part.N)
		}
	})
}
