package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/rewrite"
)

const (
	// mostDays is how many other days than its own a compacted day makes files of, mostImported an import's partition; and
	// importOldest is how many days old its events may be, whatever the setting for others says.
	mostDays     = 64
	mostImported = 1 << 12
	importOldest = 25 * 366
	// spareBytes is room on the disk that compaction leaves at least beside what it needs.
	spareBytes = 64 << 20
)

var _ store.Compactor = (*Store)(nil)

// compacting is a store's part in compaction.
type compacting struct {
	one    sync.Mutex                        // held while one runs
	mu     sync.Mutex                        // guards failed
	failed map[store.Part]*store.Uncompacted // by the first part of the sources
	left   []string                          // files that came to nothing, and stay until the manifest can be written; guarded by Store.appendMu
}

// Compact rewrites the partitions of one day that wait for it, the oldest first, and returns nil when there are none. It works
// on a thread of its own that gives way to all others; searches and batches go on meanwhile. What cannot be rewritten
// stays as it is, and is left alone for a while: see tried. Errors: store.ErrNoRoom, ErrNotAsSealed, store.ErrDamaged and others.
func (s *Store) Compact(ctx context.Context, c store.Compaction) (*store.Compacted, error) {
	s.compacting.one.Lock()
	defer s.compacting.one.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.removeLeft(); err != nil { // another one would leave as much again
		s.log.Warn("what a compaction has left cannot be removed: nothing is compacted until it can", "error", err)
		return nil, nil //nolint:nilnil // nothing can be done now
	}
	for _, d := range s.dueNow(&c) {
		if !s.mayTry(&d) {
			continue
		}
		out, err := s.compact(ctx, &c, &d)
		if ctx.Err() != nil {
			return nil, err
		}
		if err != nil {
			err = fmt.Errorf("compact %s: %w", names(d.parts), err)
		}
		s.tried(&d, err)
		return out, err
	}
	return nil, nil //nolint:nilnil // nothing is due
}

func names(parts []*partition) string {
	out := ""
	for i, p := range parts {
		if i > 0 {
			out += ", "
		}
		out += p.part.String()
	}
	return out
}

// compact rewrites partitions, and puts what was made in their place.
func (s *Store) compact(ctx context.Context, c *store.Compaction, d *due) (out *store.Compacted, err error) {
	begun := time.Now()
	if list := s.list.file.Content(); (d.split || d.class == store.Undivided) && list.Crowded() { // parts that become fewer make it shorter, as they are dropped
		return nil, fmt.Errorf("%d partitions are listed, and %d that were rewritten: the manifest has no room for more of them", len(list.Parts), len(list.Replaced))
	}
	if d.old && s.noEvents(d.parts[0]) {
		return s.dropEmpty(d.parts[0])
	}
	if d.ended != nil {
		if err := s.endForMerge(d.ended); err != nil {
			return nil, err
		}
	}
	r := &replacement{sources: d.parts, over: d.class != store.Undivided, pace: rewrite.NewPace(c.Rate)}
	out = &store.Compacted{}
	marks := make([]layout.Source, len(d.parts))
	s.mu.Lock()
	for i, p := range d.parts {
		r.entries, r.places = append(r.entries, p.entries), append(r.places, p.place)
		was := p.listed()
		marks[i] = layout.Source{Part: p.part, First: was.First, Last: p.place}
		out.From = append(out.From, p.part)
		for k := range p.entries {
			out.Events, out.RawBytes = out.Events+p.entries[k].sum.Events, out.RawBytes+p.entries[k].sum.RawBytes
		}
	}
	s.mu.Unlock()
	for _, p := range d.parts {
		out.Before += (&partView{p: p}).stats().DiskBytes
	}
	if free, _, err := s.opts.fs.Space(filepath.Join(s.opts.Dir, layout.Partitions)); err == nil && free < out.Before+out.Before/8+max(c.Spare, spareBytes) {
		return nil, fmt.Errorf("%w: %d MiB are free, and %d are there", store.ErrNoRoom, free>>20, out.Before>>20)
	}
	made, err := s.rewrite(ctx, c, d, r, marks)
	if err != nil {
		return nil, err
	}
	for _, m := range made {
		r.parts = append(r.parts, m.Part)
	}
	if err := s.replace(ctx, r); err != nil {
		for _, m := range made {
			if rerr := os.Remove(m.Path); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
				err = errors.Join(err, rerr)
			}
		}
		return nil, err
	}
	out.Into, out.Took = r.parts, time.Since(begun)
	s.mu.Lock()
	parts := s.parts
	s.mu.Unlock()
	for _, p := range parts {
		if slices.Contains(r.parts, p.part) {
			out.After += (&partView{p: p}).stats().DiskBytes
		}
	}
	return out, nil
}

// noEvents reports whether an import's partition has notes alone: of a session that was interrupted before it stored anything, say.
func (s *Store) noEvents(p *partition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(p.entries) == 0
}

// dropEmpty drops such a partition: an import that goes on after it reads its files from their beginning.
func (s *Store) dropEmpty(p *partition) (*store.Compacted, error) {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	if !s.noEvents(p) {
		return nil, errChanged
	}
	out := &store.Compacted{From: []store.Part{p.part}, Before: (&partView{p: p}).stats().DiskBytes}
	return out, s.dropLocked(p.part, "nothing was stored by the import "+p.imported, false)
}

// rewrite reads partitions and writes files of them, in the background.
func (s *Store) rewrite(ctx context.Context, c *store.Compaction, d *due, r *replacement, marks []layout.Source) (made []rewrite.Made, err error) {
	day := d.parts[0].part.Day
	job := &rewrite.Job{Codec: s.aside, Store: s.list.id, Mark: layout.Compacted{Sources: marks, Class: d.class, Received: d.received()}, Day: day, Part: s.newNumber, Path: s.tmpPath, Pace: r.pace}
	switch {
	case d.old:
		list := s.list.file.Content()
		job.Oldest, job.Most, job.Alone = importOldest, min(mostImported, list.Room()/(len(c.Classes)+1)), true
	case d.split:
		job.Oldest, job.Most = c.Oldest, mostDays
	}
	if d.split {
		job.Classes = c.Classes
	}
	if err := s.asSealed(ctx, d.parts, r.pace); err != nil {
		return nil, err
	}
	err = background(func() error {
		return guard(names(d.parts), func() (err error) {
			for i, p := range d.parts {
				src, err := rewrite.Open(p.path, p.part)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, src.Close()) }()
				job.Sources = append(job.Sources, src)
				if !sameGroups(src, r.entries[i]) {
					return errChanged
				}
			}
			made, err = job.Run(ctx)
			return err
		})
	})
	return made, err
}

// sameGroups reports whether a file has the groups that the store knows of.
func sameGroups(src *rewrite.Source, entries []entry) bool {
	return slices.EqualFunc(src.Groups, entries, func(g rewrite.Group, e entry) bool { return g.ID == e.id && g.Sum == e.sum })
}

// newNumber returns a part of a day that no other gets. It may be called in the background: batches wait while the manifest is written, and so may
// the journal.
func (s *Store) newNumber(day store.Day) (part store.Part, err error) {
	err = ordinary(func() error {
		s.appendMu.Lock()
		defer s.appendMu.Unlock()
		part = s.nextPart(day)
		return s.list.file.Update(func(c *manifest.Content) { c.Number(day.String(), part.N) })
	})
	return part, err
}
