package bolt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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
	// mostParts is how many parts compaction leaves a day with, before they become fewer.
	mostParts = 4
	// spareBytes is room on the disk that compaction leaves at least beside what it needs.
	spareBytes = 64 << 20
	// failedFor is how long a day is left alone that could not be compacted.
	failedFor = time.Hour
)

var _ store.Compactor = (*Store)(nil)

// compacting is a store's part in compaction.
type compacting struct {
	one    sync.Mutex               // held while one runs
	mu     sync.Mutex               // guards failed
	failed map[store.Part]time.Time // when it may be tried again, by the first part of the sources
	left   []string                 // files that came to nothing, and stay until the manifest can be written; guarded by Store.appendMu
}

// due are partitions of a day that are to become others.
type due struct {
	parts []*partition
	class string
	split bool // by the days of their events: batches were appended to them
	old   bool // of an import
}

// received returns the last day on which events of the partitions were received.
func (d *due) received() (day store.Day) {
	day = math.MinInt32
	for _, p := range d.parts {
		if p.compacted != nil {
			day = max(day, p.compacted.Received)
		} else {
			day = max(day, p.part.Day)
		}
	}
	return day
}

// dueNow returns what is to be compacted, the oldest first.
func (s *Store) dueNow(c *store.Compaction) (list []due) {
	now := s.opts.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.opts.ReadOnly || s.elsewhere.Load() {
		return nil
	}
	written := map[string]time.Time{} // imports, by name: they are taken back as a whole
	for _, p := range s.parts {
		if !p.ofImport() {
			continue
		}
		at := now
		if !p.canWrite() {
			at = lastWritten(p)
		}
		if at.After(written[p.imported]) {
			written[p.imported] = at
		}
	}
	for i := 0; i < len(s.parts); {
		day := s.parts[i].part.Day
		n := i
		for n < len(s.parts) && s.parts[n].part.Day == day {
			n++
		}
		of := s.parts[i:n]
		i = n
		for _, p := range of {
			if p.ofImport() && len(p.entries) > 0 && !p.canWrite() && written[p.imported].Add(c.ImportAfter).Before(now) {
				list = append(list, due{parts: []*partition{p}, split: true, old: true})
			}
		}
		over := day.Time().AddDate(0, 0, 1).Add(c.After)
		if !c.Today && now.Before(over) {
			continue
		}
		arrived := due{split: true}
		made := map[string][]*partition{}
		var classes []string
		for _, p := range of {
			switch {
			case p == s.cur, p.ofImport():
			case p.compacted == nil && len(p.entries) > 0:
				arrived.parts = append(arrived.parts, p)
			case p.compacted != nil:
				class := p.compacted.Class
				if made[class] == nil {
					classes = append(classes, class)
				}
				made[class] = append(made[class], p)
			}
		}
		if len(arrived.parts) > 0 {
			list = append(list, arrived)
		}
		for _, class := range classes {
			if parts := tooMany(made[class]); len(parts) > 0 {
				list = append(list, due{parts: parts, class: class})
			}
		}
	}
	return list
}

// lastWritten returns when a partition's file was written last; now where that is not known.
func lastWritten(p *partition) time.Time {
	info, err := os.Stat(p.path)
	if err != nil {
		return time.Now()
	}
	return info.ModTime()
}

// tooMany returns the parts of a day that are to become one, when there are too many: all but a large one that the others
// together are little beside.
func tooMany(parts []*partition) []*partition {
	if len(parts) <= mostParts {
		return nil
	}
	size := func(p *partition) (n uint64) {
		for i := range p.entries {
			n += p.entries[i].sum.Bytes
		}
		return n
	}
	parts = slices.Clone(parts)
	slices.SortStableFunc(parts, func(a, b *partition) int {
		switch sa, sb := size(a), size(b); {
		case sa > sb:
			return -1
		case sa < sb:
			return 1
		}
		return 0
	})
	rest := uint64(0)
	for _, p := range parts[1:] {
		rest += size(p)
	}
	if rest*4 < size(parts[0]) {
		parts = parts[1:]
	}
	sortParts(parts)
	return parts
}

// Compactable returns how many partitions wait for compaction, and their bytes.
func (s *Store) Compactable(c store.Compaction) (parts int, bytes uint64) {
	for _, d := range s.dueNow(&c) {
		for _, p := range d.parts {
			parts++
			for i := range p.entries {
				bytes += p.entries[i].sum.Bytes
			}
		}
	}
	return parts, bytes
}

// Compact rewrites the partitions of one day that wait for it, the oldest first, and returns nil when there are none. It works
// on a thread of its own that gives way to all others; searches and batches go on meanwhile. A day that cannot be rewritten
// stays as it is, and is left alone for an hour. Errors: store.ErrNoRoom, ErrNotAsSealed, store.ErrDamaged and others.
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
		if err != nil && ctx.Err() == nil {
			s.failedNow(&d)
			return nil, fmt.Errorf("compact %s: %w", names(d.parts), err)
		}
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

func (s *Store) mayTry(d *due) bool {
	s.compacting.mu.Lock()
	defer s.compacting.mu.Unlock()
	return !s.opts.now().Before(s.compacting.failed[d.parts[0].part])
}

func (s *Store) failedNow(d *due) {
	s.compacting.mu.Lock()
	defer s.compacting.mu.Unlock()
	if s.compacting.failed == nil {
		s.compacting.failed = map[store.Part]time.Time{}
	}
	s.compacting.failed[d.parts[0].part] = s.opts.now().Add(failedFor)
}

// compact rewrites partitions, and puts what was made in their place.
func (s *Store) compact(ctx context.Context, c *store.Compaction, d *due) (out *store.Compacted, err error) {
	begun := time.Now()
	if list := s.list.file.Content(); d.split && list.Crowded() { // parts that become fewer make it shorter, as they are dropped
		return nil, fmt.Errorf("%d partitions are listed, and %d that were rewritten: the manifest has no room for more of them", len(list.Parts), len(list.Replaced))
	}
	r := &replacement{sources: d.parts}
	out = &store.Compacted{}
	marks := make([]layout.Source, len(d.parts))
	s.mu.Lock()
	for i, p := range d.parts {
		r.entries = append(r.entries, p.entries)
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

// rewrite reads partitions and writes files of them, on a thread that gives way to all others.
func (s *Store) rewrite(ctx context.Context, c *store.Compaction, d *due, r *replacement, marks []layout.Source) (made []rewrite.Made, err error) {
	day := d.parts[0].part.Day
	job := &rewrite.Job{Codec: s.codec, Store: s.list.id, Mark: layout.Compacted{Sources: marks, Class: d.class, Received: d.received()}, Day: day, Part: s.newNumber, Path: s.tmpPath, Rate: c.Rate}
	switch {
	case d.old:
		job.Oldest, job.Most, job.Alone = importOldest, mostImported, true
	case d.split:
		job.Oldest, job.Most = c.Oldest, mostDays
	}
	if d.split {
		job.Classes = c.Classes
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread ends with the goroutine, since it is not unlocked.
		runtime.LockOSThread()
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), backgroundNice) // as in makeTrees
		for _, p := range d.parts {
			if err = s.asSealed(ctx, p); err != nil {
				return
			}
		}
		err = guard(names(d.parts), func() (err error) {
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
	}()
	<-done
	return made, err
}

// sameGroups reports whether a file has the groups that the store knows of.
func sameGroups(src *rewrite.Source, entries []entry) bool {
	return slices.EqualFunc(src.Groups, entries, func(g rewrite.Group, e entry) bool { return g.ID == e.id && g.Sum == e.sum })
}

// newNumber returns a part of a day that no other gets.
func (s *Store) newNumber(day store.Day) (store.Part, error) {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	part := s.nextPart(day)
	return part, s.list.file.Update(func(c *manifest.Content) { c.Number(day.String(), part.N) })
}
