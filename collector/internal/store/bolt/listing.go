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

// listing is the store's manifest and, while the store is being opened, what was found
// that is to go into it. Open alone writes the fields; afterwards only file changes, which
// has a lock of its own, and remade, under Store.appendMu. A store that is opened to be
// read writes none of it.
type listing struct {
	id      seglog.ID
	file    *manifest.File // nil: read-only and there is none, or not yet
	adopt   bool           // there was no usable manifest: the files that are there are listed
	why     string         // what the new manifest says of why it was begun
	missing error          // why the manifest that should be there is not; nil when all is well

	opened bool            // reconcile is done
	losses []manifest.Loss // found while opening
	gone   map[string]bool // partitions set aside while opening
	remade map[string]bool // partitions written anew from what was readable
}

// ID returns the store's ID.
func (s *Store) ID() seglog.ID { return s.list.id }

// openList reads the manifest, or begins that of a new store. A manifest that is there
// counts whatever VERSION says, since it is written before the version is raised. Where
// there is none, or a damaged one, identify begins another.
func (s *Store) openList() error {
	l := &s.list
	l.gone, l.remade = map[string]bool{}, map[string]bool{}
	c, err := manifest.Load(s.opts.fs, s.opts.Dir)
	switch {
	case err == nil:
		l.id, l.file = c.ID, manifest.NewFile(s.opts.fs, s.opts.Dir, c)
		if s.version > 0 {
			return nil
		}
		// The first start was killed before it wrote the marker. It comes before any other file, without it nobody could tell these from a store
		// that has lost it.
		return s.markNew()
	case errors.Is(err, manifest.ErrVersion):
		return fmt.Errorf("%w: %w", store.ErrVersion, err)
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, manifest.ErrDamaged):
		return err
	case s.version == 0 && errors.Is(err, fs.ErrNotExist):
		l.id = manifest.NewID()
		l.file = manifest.NewFile(s.opts.fs, s.opts.Dir, &manifest.Content{ID: l.id, Since: now()})
		if err := l.file.Write(); err != nil {
			return err
		}
		return s.markNew()
	}
	l.adopt = true
	l.why = fmt.Sprintf("a store of version %d", s.version)
	if s.version >= layout.ListedVersion || errors.Is(err, manifest.ErrDamaged) {
		l.manifestLost(err)
	}
	return nil
}

// manifestLost notes that a manifest should be there and is not, or cannot be used.
func (l *listing) manifestLost(cause error) {
	l.adopt = true
	if errors.Is(cause, fs.ErrNotExist) {
		cause = errors.New("it is not there")
	}
	l.missing = fmt.Errorf("%w: %s: %w: what was taken away or put in before cannot be told", store.ErrDamaged, manifest.Name, cause)
	l.why = "the manifest was lost"
}

func now() time.Time { return time.Now().UTC().Round(0) }

// markNew makes the folder a store's, whose manifest is there.
func (s *Store) markNew() error {
	s.version = layout.SealedVersion
	return layout.WriteMarker(s.opts.Dir, s.version)
}

// identify decides which ID is the store's, sets aside the partitions of other stores,
// and begins a manifest where one is missing. Without a usable manifest, the ID is the one
// that most files have. A manifest whose ID no file has, while files have another, is
// another store's.
func (s *Store) identify() error {
	l := &s.list
	votes := map[seglog.ID]int{} // how many files have an ID
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
	if err := s.setForeignAside(); err != nil {
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
		l.file = manifest.NewFile(s.opts.fs, s.opts.Dir, c)
	}
	if s.senders.id != (seglog.ID{}) && s.senders.id != l.id {
		return s.renewSenders(fmt.Errorf("%w: it is of the store %s, this is %s", store.ErrDamaged, s.senders.id, l.id))
	}
	return s.senders.setID(l.id)
}

// setForeignAside sets aside the partitions of other stores.
func (s *Store) setForeignAside() error {
	l := &s.list
	var c manifest.Content
	if l.file != nil {
		c = l.file.Content()
	}
	keep := s.parts[:0]
	for _, p := range s.parts {
		err := l.foreignCause(&c, p)
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

// foreignCause returns why a partition is not the store's; nil when it is. One with the
// store's ID is. One without an ID is, where the manifest says that it was listed before
// files had IDs, or misses a partition of that name: that one came back.
func (l *listing) foreignCause(c *manifest.Content, p *partition) error {
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

// remake notes that a partition was written anew, with everything that it had: reconcile
// then does not compare it with what was listed.
func (l *listing) remake(part store.Part) {
	if l.remade != nil {
		l.remade[part.String()] = true
	}
}

// Journal returns what the manifest knows of the journal's segments; nothing for a store
// without a manifest that is opened to be read.
func (s *Store) Journal() seglog.Known {
	if s.list.file == nil {
		return seglog.Known{}
	}
	return s.list.file.Content().Journal
}

// KeepJournal writes what is known of the journal's segments, and what was found missing
// of them, into the manifest. Missing has the latter from now on, also after an error. It
// may run beside Append.
func (s *Store) KeepJournal(k seglog.Known, lost []string) error {
	s.mu.Lock()
	id := s.state.ID
	s.mu.Unlock()
	at := now()
	err := s.list.file.Update(func(c *manifest.Content) {
		c.Journal, c.Batch = k, max(c.Batch, id)
		for _, text := range lost {
			c.AddLoss(manifest.Loss{Text: text, Found: at})
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range lost {
		s.broken = append(slices.Clone(s.broken), asError(manifest.Loss{Text: text}))
	}
	return err
}

// listNew lists a partition that was just made: it has its name, and no batch yet.
func (s *Store) listNew(p *partition) error {
	return s.list.file.Update(func(c *manifest.Content) {
		name := p.part.String()
		c.Set(manifest.Part{Name: name})
		c.Lost = slices.DeleteFunc(c.Lost, func(x manifest.Loss) bool { return x.Part == name })
	})
}

// forgot writes into the manifest that hosts are taken off the list of hosts, and since
// when that was done first.
func (l *listing) forgot() error {
	return l.file.Update(func(c *manifest.Content) {
		if at := now(); c.Forgot.IsZero() || at.Before(c.Forgot) {
			c.Forgot = at
		}
	})
}

// seal lists what a sealed partition holds.
func (l *listing) seal(p manifest.Part) error {
	return l.file.Update(func(c *manifest.Content) { c.Set(p) })
}

// drop takes a partition off the list, and then calls remove to delete it: in this order,
// so that after a power cut everything listed is there. When remove fails, the partition
// is listed again. With older, lost partitions that are not younger would have been dropped by now,
// too, so they are no longer missed.
func (l *listing) drop(part store.Part, older bool, remove func() error) error {
	var was manifest.Part
	name := part.String()
	err := l.file.Update(func(c *manifest.Content) {
		if p := c.Part(name); p != nil {
			was = *p
		}
		c.Remove(name)
		c.Dropped = manifest.Dropped{Count: c.Dropped.Count + 1, Last: name, At: now()}
		c.ForgetReplaced()
		c.Lost = slices.DeleteFunc(c.Lost, func(x manifest.Loss) bool { return x.Part == name || older && upTo(x.Part, part) })
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

// upTo reports whether name is that of part or of an older partition.
func upTo(name string, part store.Part) bool {
	p, err := store.ParsePart(name)
	return err == nil && p.Compare(part) <= 0
}
