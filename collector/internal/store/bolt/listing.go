package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
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
		l.manifestLost(err)
	}
	return nil
}

// manifestLost says that a manifest should be there and is not.
func (l *listing) manifestLost(cause error) {
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
			l.manifestLost(fs.ErrNotExist)
		}
		l.id = best
	case votes[l.id] == 0 && best != (seglog.ID{}):
		l.manifestLost(fmt.Errorf("it is of another store, %s, and the files are of %s", l.id, best))
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
