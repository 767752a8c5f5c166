package bolt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// A partition that compaction has made is sealed from the start: no batch is appended to it. Its groups have
// events of many batches, and each event says of which.

// batches returns the first and the last batch that a group has events of.
func (e *entry) batches() (first, last uint64) {
	if e.sum.LastBatch != 0 {
		return e.sum.FirstBatch, e.sum.LastBatch
	}
	return e.id, e.id
}

// lastBatch returns the last batch that groups have events of; 0 where there are none.
func lastBatch(entries []entry) (id uint64) {
	for i := range entries {
		_, last := entries[i].batches()
		id = max(id, last)
	}
	return id
}

// placeBy returns a partition's place: that of its state, or of what it was made of; of an import, the one that it has.
func (p *partition) placeBy(st *store.State) uint64 {
	switch {
	case p.ofImport():
		return p.place
	case st.ID == 0 && p.compacted != nil:
		return p.compacted.Last
	}
	return st.ID
}

// placeIn is placeBy in a transaction; 0 where it cannot be read.
func placeIn(tx *bbolt.Tx) uint64 {
	marks := tx.Bucket(layout.BucketMarks)
	st, err := layout.DecodeState(marks.Get(layout.KeyState))
	if err != nil {
		return 0
	}
	p := partition{}
	p.compacted, _ = layout.DecodeCompacted(marks.Get(layout.KeyCompacted)) // a damaged one says nothing
	return p.placeBy(st)
}

// keepsLedger reports whether the partition has a day's account of hosts' completeness: of several that compaction
// has made of one, the first has it; an import has none.
func (p *partition) keepsLedger() bool {
	return !p.ofImport() && (p.compacted == nil || p.compacted.Parts[0] == p.part)
}

// compacted reports whether the manifest says of a partition that compaction has made it.
func (l *listing) compacted(part store.Part) bool {
	if l.file == nil {
		return false
	}
	c := l.file.Content()
	was := c.Part(part.String())
	return was != nil && was.Compacted
}

// nextPart returns the part of a day that comes after all that there are. A number that compaction has used is not
// used again. appendMu is held.
func (s *Store) nextPart(day store.Day) store.Part {
	c := s.list.file.Content()
	n := c.Numbers[day.String()]
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if p.part.Day == day {
			n = max(n, p.part.N)
		}
	}
	return store.Part{Day: day, N: n + 1}
}

// settleCompacted takes the files out that must not be read: what a crash has left of a compaction, and what came
// back of partitions that were rewritten. Open alone calls it.
func (s *Store) settleCompacted() error {
	l := &s.list
	var c *manifest.Content
	if l.file != nil && !l.adopt {
		now := l.file.Content()
		c = &now
	}
	if (c == nil || len(c.Replaced) == 0) && !slices.ContainsFunc(s.parts, func(p *partition) bool { return p.compacted != nil }) {
		return nil
	}
	var files []layout.Judged
	for _, p := range s.parts {
		f := layout.Judged{Part: p.part, Compacted: p.compacted, Sound: true}
		st, err := p.loadState()
		if err != nil {
			f.Sound = false // loadState says so again
			files = append(files, f)
			continue
		}
		p.place = p.placeBy(st)
		was := p.listed()
		f.First, f.Last, f.Events = was.First, was.Batch, was.Events
		files = append(files, f)
	}
	for _, d := range s.damaged {
		files = append(files, layout.Judged{Part: d.p.part, Compacted: d.p.compacted})
	}
	verdicts := layout.Judge(c, files)
	if len(verdicts) == 0 {
		return nil
	}
	var errs []error
	out := func(p *partition) bool {
		v, ok := verdicts[p.part]
		if ok {
			errs = append(errs, s.takeOut(p, v))
		}
		return ok
	}
	s.parts = slices.DeleteFunc(s.parts, out)
	s.damaged = slices.DeleteFunc(s.damaged, func(d damagedPart) bool { return out(d.p) })
	if !s.opts.ReadOnly {
		errs = append(errs, fsys.OS.SyncDir(filepath.Join(s.opts.Dir, layout.Partitions)))
	}
	return errors.Join(errs...)
}

// takeOut closes a file that must not be read, and deletes it or sets it aside; read-only it leaves it where it is.
func (s *Store) takeOut(p *partition, v layout.Verdict) error {
	if err := p.close(); err != nil {
		s.log.Warn("closing a partition", "partition", p.path, "error", err)
	}
	switch {
	case s.opts.ReadOnly:
		return nil
	case v == layout.Unfinished || v == layout.Rewritten:
		s.log.Info("deleting what a compaction has left that was cut short", "partition", p.path)
		return os.Remove(p.path)
	}
	aside := fmt.Sprintf("%s%s%d", p.path, layout.ReplacedMark, now().UnixNano())
	s.log.Error("a partition was rewritten, and is there again: it is set aside, for others have its events", "partition", p.path, "set aside as", filepath.Base(aside))
	return os.Rename(p.path, aside)
}
