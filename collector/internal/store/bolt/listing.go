package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// listing is the store's manifest and, while the store is being opened, what was
// found out that is to go into it. Read-only, nothing of it is written.
type listing struct {
	id      seglog.ID
	file    *manifest.File // nil: read-only and there is none, or not yet
	adopt   bool           // there was no manifest: what is there is listed as it is
	why     string         // of a manifest that is begun anew
	missing error          // why one that should be there is not, nil when all is well

	opened bool
	losses []manifest.Loss // found while opening
	gone   map[string]bool // partitions set aside while opening
	remade map[string]bool // partitions written anew of what was readable
}

// ID is the store's.
func (s *Store) ID() seglog.ID { return s.list.id }

// openList reads the manifest, or begins that of a new store. A manifest is believed
// whatever VERSION says: it is written before the version is raised.
func (s *Store) openList() error {
	l := &s.list
	l.gone, l.remade = map[string]bool{}, map[string]bool{}
	c, err := manifest.Load(s.opts.fs, s.opts.Dir)
	switch {
	case err == nil:
		l.id, l.file = c.ID, manifest.Begin(s.opts.fs, s.opts.Dir, c)
		return nil
	case errors.Is(err, manifest.ErrVersion):
		return fmt.Errorf("%w: %w", store.ErrVersion, err)
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, manifest.ErrDamaged):
		return err
	case s.version == 0 && errors.Is(err, fs.ErrNotExist):
		l.id = manifest.NewID()
		l.file = manifest.Begin(s.opts.fs, s.opts.Dir, &manifest.Content{ID: l.id, Since: now()})
		if err := l.file.Write(); err != nil {
			return err
		}
		s.version = layout.Version
		return layout.WriteMarker(s.opts.Dir, s.version)
	}
	l.adopt = true
	l.why = fmt.Sprintf("a store of version %d", s.version)
	if s.version >= layout.ListedVersion || errors.Is(err, manifest.ErrDamaged) {
		l.lost(err)
	}
	return nil
}

// lost says that a manifest should be there and is not.
func (l *listing) lost(cause error) {
	l.adopt = true
	if errors.Is(cause, fs.ErrNotExist) {
		cause = errors.New("it is not there")
	}
	l.missing = fmt.Errorf("%w: %s: %w: what was taken away or put in before cannot be told", store.ErrDamaged, manifest.Name, cause)
	l.why = "the manifest was lost"
}

func now() time.Time { return time.Now().UTC().Round(0) }

// identify finds the store's ID when there is no manifest to say it, or when the one
// there is another store's, and sets aside the files of other stores.
func (s *Store) identify() error {
	l := &s.list
	votes := map[seglog.ID]int{}
	vote := func(id seglog.ID) {
		if id != (seglog.ID{}) {
			votes[id]++
		}
	}
	for _, p := range s.parts {
		vote(p.id)
	}
	vote(s.senders.id)
	best := seglog.ID{}
	for id, n := range votes {
		if n > votes[best] || n == votes[best] && id.String() < best.String() {
			best = id
		}
	}
	switch {
	case l.adopt && best == (seglog.ID{}) && l.missing == nil:
		l.id = manifest.NewID()
	case l.adopt && best == (seglog.ID{}):
		l.id = manifest.NewID()
	case l.adopt:
		if l.missing == nil { // VERSION says that there never was one
			l.lost(fs.ErrNotExist)
		}
		l.id = best
	case votes[l.id] == 0 && best != (seglog.ID{}):
		l.lost(fmt.Errorf("it is of another store, %s, and the files are of %s", l.id, best))
		l.id = best
	}
	if err := s.foreign(); err != nil {
		return err
	}
	if s.opts.ReadOnly {
		return nil
	}
	if l.adopt {
		if l.missing != nil {
			if _, err := manifest.SetAside(s.opts.Dir, now()); err != nil {
				return err
			}
			s.log.Error("the manifest is begun anew", "error", l.missing)
		}
		c := &manifest.Content{ID: l.id, Since: now(), Why: l.why}
		if l.missing != nil { // nobody knows whether any was forgotten
			c.Forgot = time.Unix(0, 0).UTC()
		}
		l.file = manifest.Begin(s.opts.fs, s.opts.Dir, c)
	}
	if s.senders.id != (seglog.ID{}) && s.senders.id != l.id {
		return s.renewSenders(fmt.Errorf("%w: it is of the store %s, this is %s", store.ErrDamaged, s.senders.id, l.id))
	}
	return s.senders.mark(l.id)
}

// foreign takes the partitions of other stores out.
func (s *Store) foreign() error {
	l := &s.list
	var c manifest.Content
	if l.file != nil {
		c = l.file.Content()
	}
	keep := s.parts[:0]
	for _, p := range s.parts {
		err := l.stranger(&c, p)
		if err == nil {
			keep = append(keep, p)
			continue
		}
		if err := s.setAside(p, fmt.Errorf("%s: %w", p.path, err)); err != nil {
			return err
		}
	}
	s.parts = keep
	return nil
}

// stranger is why a partition is not the store's; nil when it is.
func (l *listing) stranger(c *manifest.Content, p *partition) error {
	switch {
	case p.id != (seglog.ID{}) && p.id != l.id:
		return fmt.Errorf("%w: foreign: it is of the store %s, this is %s", store.ErrDamaged, p.id, l.id)
	case p.id != (seglog.ID{}), l.adopt:
		return nil
	}
	name := p.part.String()
	was := c.Part(name)
	came := slices.ContainsFunc(c.Lost, func(x manifest.Loss) bool { return x.Part == name })
	if was == nil && !came || was != nil && !was.Unmarked {
		return fmt.Errorf("%w: foreign: it does not say which store it is of, and this is %s", store.ErrDamaged, l.id)
	}
	return nil
}

// listed is what the manifest says of a partition that is sealed; Store.mu is held,
// or nobody else knows p.
func (p *partition) listed() manifest.Part {
	out := manifest.Part{Name: p.part.String(), Batch: p.place, Unmarked: p.id == seglog.ID{}}
	for i := range p.entries {
		e := &p.entries[i]
		if i == 0 {
			out.First = e.id
		}
		out.Events += e.sum.Events
		if e.sum.MinMs != 0 && (out.MinMs == 0 || e.sum.MinMs < out.MinMs) {
			out.MinMs = e.sum.MinMs
		}
		out.MaxMs = max(out.MaxMs, e.sum.MaxMs)
	}
	return out
}

// other says why a partition is not the one that was sealed under its name; "" when
// it is. Later batches may have gone into it.
func other(was, is *manifest.Part) string {
	if was.Batch == 0 || is.Batch >= was.Batch && is.First == was.First && is.Events >= was.Events {
		return ""
	}
	return fmt.Sprintf("it is not the file that was sealed: that had batches %d to %d with %d events, this one has %d to %d with %d",
		was.First, was.Batch, was.Events, is.First, is.Batch, is.Events)
}

// reconcile compares the partitions there are with those that are listed, notes what
// is missing, and lists what is there.
func (s *Store) reconcile() error {
	l := &s.list
	var c manifest.Content
	if l.file != nil {
		c = l.file.Content()
	}
	s.stillLost(&c)
	if l.missing != nil {
		l.note(s, manifest.Loss{File: manifest.Name, Text: l.missing.Error(), Found: now()})
	}
	mine := map[string]*partition{}
	for _, p := range s.parts {
		mine[p.part.String()] = p
	}
	whole := len(l.gone) == 0
	for _, was := range slices.Clone(c.Parts) {
		p := mine[was.Name]
		switch {
		case p == nil && l.gone[was.Name]:
			c.Remove(was.Name)
		case p == nil && s.dealtWith(was):
			whole = false
			c.Remove(was.Name)
		case p == nil && !s.there(was.Name):
			whole = false
			c.Remove(was.Name)
			l.note(s, manifest.Loss{Part: was.Name, Found: now(), MinMs: was.MinMs, MaxMs: was.MaxMs, Batch: was.Batch,
				Text: fmt.Sprintf("%s%s is missing: it was deleted or moved away, and not by retention", filepath.Join(layout.Partitions, was.Name), layout.Suffix)})
		case p != nil && !l.remade[was.Name]:
			if is := p.listed(); other(&was, &is) != "" {
				l.note(s, manifest.Loss{Text: fmt.Sprintf("%s%s: %s", filepath.Join(layout.Partitions, was.Name), layout.Suffix, other(&was, &is)), Found: now(),
					MinMs: was.MinMs, MaxMs: was.MaxMs, Batch: was.Batch})
			}
		}
	}
	if whole && s.state.ID < c.Batch {
		l.note(s, manifest.Loss{Found: now(), Text: fmt.Sprintf("%s: the last batch is %d, and %d was stored: an older copy of the day that was being written", layout.Partitions, s.state.ID, c.Batch)})
	}
	l.opened = true
	if s.opts.ReadOnly {
		return nil
	}
	return s.saveList(&c)
}

// saveList writes the list as it is after the opening, and then the version: from
// then on a manifest has to be there.
func (s *Store) saveList(c *manifest.Content) error {
	l := &s.list
	for _, p := range s.parts {
		one := p.listed()
		if p == s.cur {
			one = manifest.Part{Name: one.Name, Unmarked: one.Unmarked}
		}
		c.Set(one)
	}
	c.Batch = s.state.ID
	for _, x := range l.losses {
		c.Lose(x)
	}
	first := l.adopt
	err := l.file.Update(func(out *manifest.Content) { *out = *c })
	if err == nil && first {
		err = l.file.Write() // also when it says nothing yet
	}
	if err != nil || s.version >= layout.ListedVersion {
		return err
	}
	s.version = layout.ListedVersion
	return layout.WriteMarker(s.opts.Dir, s.version)
}

// stillLost goes through what was missing before: what came back or was moved away is
// dealt with, the rest is said again.
func (s *Store) stillLost(c *manifest.Content) {
	c.Lost = slices.DeleteFunc(c.Lost, func(x manifest.Loss) bool {
		switch {
		case x.Part != "":
			return slices.ContainsFunc(s.parts, func(p *partition) bool { return p.part.String() == x.Part })
		case x.File != "" && x.File != manifest.Name:
			_, err := os.Lstat(filepath.Join(s.opts.Dir, x.File))
			return errors.Is(err, fs.ErrNotExist)
		}
		return false
	})
	for _, x := range c.Lost {
		s.broken = append(s.broken, asError(x))
	}
}

// there says whether a partition's file is there, though it could not be opened.
func (s *Store) there(name string) bool {
	_, err := os.Lstat(filepath.Join(s.opts.Dir, layout.Partitions, name+layout.Suffix))
	return err == nil
}

// dealtWith says whether a partition was set aside by hand, in the way that the store
// does it itself, or was brought back from since.
func (s *Store) dealtWith(was manifest.Part) bool {
	dir := filepath.Join(s.opts.Dir, layout.Partitions)
	if m, _ := filepath.Glob(filepath.Join(dir, was.Name+layout.Suffix+layout.AsideMark+"*")); len(m) > 0 { // the pattern is well-formed
		x := manifest.Loss{File: filepath.Join(layout.Partitions, filepath.Base(m[0])), Found: now(), MinMs: was.MinMs, MaxMs: was.MaxMs, Batch: was.Batch}
		x.Text = x.File + ": set aside: `collector salvage` brings back what is readable of it"
		s.list.note(s, x)
		return true
	}
	m, _ := filepath.Glob(filepath.Join(dir, was.Name+layout.Suffix+layout.SalvagedMark+"*"))
	return len(m) > 0
}

// note keeps a loss that was found while opening, and has answers say it.
func (l *listing) note(s *Store, x manifest.Loss) {
	l.losses = append(l.losses, x)
	err := asError(x)
	s.broken = append(s.broken, err)
	s.log.Error("part of the store is missing from answers", "error", err)
}

// lose notes that a partition was set aside: it stays so until the file is dealt with.
// s.mu is not held.
func (s *Store) lose(p *partition, aside string, cause error) {
	l := &s.list
	x := manifest.Loss{File: filepath.Join(layout.Partitions, filepath.Base(aside)), Found: now(), Text: clipText(cause)}
	if !l.opened {
		l.losses = append(l.losses, x)
		l.gone[p.part.String()] = true
		return
	}
	err := l.file.Update(func(c *manifest.Content) {
		c.Lose(x)
		if was := c.Part(p.part.String()); was != nil {
			*was = manifest.Part{Name: was.Name, Unmarked: was.Unmarked}
		}
	})
	if err != nil {
		s.log.Warn("the manifest", "error", err)
	}
}

// clipText is an error as it is kept: of bounded length.
func clipText(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	return text[:min(len(text), 400)]
}

// remake says that a partition was written anew of what was readable of it.
func (l *listing) remake(part store.Part) {
	if l.remade != nil {
		l.remade[part.String()] = true
	}
}

// Journal is what the store knows of the journal's segments.
func (s *Store) Journal() seglog.Known {
	if s.list.file == nil {
		return seglog.Known{}
	}
	return s.list.file.Content().Journal
}

// KeepJournal makes durable what is known of the journal's segments, and what was
// found missing of them, which answers say from now on.
func (s *Store) KeepJournal(k seglog.Known, lost []string) error {
	s.mu.Lock()
	id := s.state.ID
	s.mu.Unlock()
	at := now()
	err := s.list.file.Update(func(c *manifest.Content) {
		c.Journal, c.Batch = k, max(c.Batch, id)
		for _, text := range lost {
			c.Lose(manifest.Loss{Text: text, Found: at})
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range lost {
		s.broken = append(slices.Clone(s.broken), asError(manifest.Loss{Text: text}))
	}
	return err
}

// listNew lists a partition that was just made, before anything goes into it.
func (s *Store) listNew(p *partition) error {
	return s.list.file.Update(func(c *manifest.Content) {
		name := p.part.String()
		c.Set(manifest.Part{Name: name})
		c.Lost = slices.DeleteFunc(c.Lost, func(x manifest.Loss) bool { return x.Part == name })
	})
}

// forgot notes that hosts are taken off the list.
func (l *listing) forgot() error {
	return l.file.Update(func(c *manifest.Content) {
		if at := now(); c.Forgot.IsZero() || at.Before(c.Forgot) {
			c.Forgot = at
		}
	})
}

func (l *listing) seal(p manifest.Part) error {
	return l.file.Update(func(c *manifest.Content) { c.Set(p) })
}

// drop takes a partition off the list and then has it deleted. What is missing and is
// not younger would have been dropped, too, and is no longer missed.
func (l *listing) drop(part store.Part, remove func() error) error {
	var was manifest.Part
	name := part.String()
	err := l.file.Update(func(c *manifest.Content) {
		if p := c.Part(name); p != nil {
			was = *p
		}
		c.Remove(name)
		c.Dropped = manifest.Dropped{Count: c.Dropped.Count + 1, Last: name, At: now()}
		c.Lost = slices.DeleteFunc(c.Lost, func(x manifest.Loss) bool { return upTo(x.Part, part) })
	})
	if err != nil {
		return err
	}
	err = remove()
	if err != nil && was.Name != "" && !errors.Is(err, fs.ErrNotExist) {
		err = errors.Join(err, l.file.Update(func(c *manifest.Content) { c.Set(was); c.Dropped.Count-- }))
	}
	return err
}

func upTo(name string, part store.Part) bool {
	p, err := store.ParsePart(name)
	return err == nil && p.Compare(part) <= 0
}

// forgetBroken is drop's other half; s.mu is held.
func (s *Store) forgetBroken(part store.Part) {
	s.broken = slices.DeleteFunc(slices.Clone(s.broken), func(err error) bool {
		var m *missingError
		return errors.As(err, &m) && upTo(m.part, part)
	})
}

// missingError is a loss as answers say it.
type missingError struct {
	part         string
	text         string
	minMs, maxMs int64
	batch        uint64
}

func asError(x manifest.Loss) error {
	return &missingError{part: x.Part, text: x.Text, minMs: x.MinMs, maxMs: x.MaxMs, batch: x.Batch}
}

func (m *missingError) Error() string {
	return store.ErrDamaged.Error() + ": " + strings.TrimPrefix(m.text, store.ErrDamaged.Error()+": ")
}

func (m *missingError) Unwrap() error { return store.ErrDamaged }

// concerning are the losses that may have had an answer to a query.
func concerning(broken []error, q *query.Query) []error {
	return slices.DeleteFunc(slices.Clone(broken), func(err error) bool {
		var m *missingError
		if !errors.As(err, &m) {
			return false
		}
		return m.maxMs > 0 && (q.StartMs != 0 && m.maxMs < q.StartMs || q.EndMs != 0 && m.minMs > q.EndMs) || m.batch > 0 && m.batch <= q.AfterBatch
	})
}

// Forget no longer misses a partition that is gone for good, or with "all" anything
// that is known to be missing, but for files that lie set aside. It says how many
// things it has forgotten.
func (s *Store) Forget(name string) (n int, err error) {
	match := func(x manifest.Loss) bool {
		aside := x.File != "" && x.File != manifest.Name
		return name != "" && x.Part == name || name == "all" && !aside
	}
	err = s.list.file.Update(func(c *manifest.Content) {
		before := len(c.Lost)
		c.Lost = slices.DeleteFunc(c.Lost, match)
		n = before - len(c.Lost)
	})
	return n, err
}
