package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// sealedGroup is a group in the outbox.
type sealedGroup struct {
	p  *partition
	id uint64
}

// sealed returns the groups in the store's partitions, by ID.
func (s *Store) sealed() (list []sealedGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		for _, e := range p.entries {
			list = append(list, sealedGroup{p, e.id})
		}
	}
	slices.SortFunc(list, func(a, b sealedGroup) int { return int(int64(a.id) - int64(b.id)) })
	return list
}

// lastGroup is the ID of the last group in the store's partitions; 0: there is none.
func (s *Store) lastGroup() (id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		for i := range p.entries {
			id = max(id, p.entries[i].id)
		}
	}
	return id
}

// entriesAfter returns what the catalogue says of the groups behind one.
func (s *Store) entriesAfter(id uint64) (list []waitingGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		for _, e := range p.entries {
			if e.id > id {
				list = append(list, waitingGroup{p.part.Day, e})
			}
		}
	}
	return list
}

// waitingGroup is a group that the engine has not taken, as the catalogue has it.
type waitingGroup struct {
	day store.Day
	entry
}

// load reads the group. Its bytes are copied, since an engine may take longer than a read
// transaction may last. *damage is set when the group turns out to be damaged: at once, then
// with err, or while an engine reads its events.
func (g sealedGroup) load() (sealed *store.Sealed, damage *error, err error) {
	damage = new(error)
	defer func() {
		if errors.Is(err, store.ErrDamaged) {
			*damage = err
		}
	}()
	var b []byte
	err = g.p.view(func(tx *bbolt.Tx) error {
		bkt := tx.Bucket(layout.BucketGroups).Bucket(layout.GroupKey(g.id))
		if bkt == nil {
			return fmt.Errorf("%w: it is in the catalogue, but not there", store.ErrDamaged)
		}
		b = bytes.Clone(bkt.Get(layout.KeyGroup))
		return nil
	})
	if err != nil {
		return nil, damage, err
	}
	x, err := g.p.codec.Open(b)
	if err != nil {
		return nil, damage, err
	}
	division, err := x.Division()
	if err != nil {
		return nil, damage, err
	}
	return &store.Sealed{ID: g.id, Day: g.p.part.Day, Division: division, Each: func(fn func(string, *event.Event) error) error {
		var theirs error // of fn, and none of the group's
		err := x.Each(func(host string, ev *event.Event) error {
			theirs = fn(host, ev)
			return theirs
		})
		if theirs == nil && errors.Is(err, store.ErrDamaged) {
			*damage = err
		}
		return err
	}}, damage, nil
}

// discard deletes a group and its catalogue entry, which the engine has now. That of a file to which no batch goes any more stays: the
// manifest says what is in that, and it goes as a whole.
func (s *Store) discard(g sealedGroup) error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	return s.discardLocked(g)
}

// discardLocked is discard with appendMu held.
func (s *Store) discardLocked(g sealedGroup) error {
	s.mu.Lock()
	written := g.p == s.cur
	s.mu.Unlock()
	if !written {
		return nil
	}
	if err := g.p.reopen(true); err != nil {
		return err
	}
	// In a transaction of its own, after the engine's Append: a crash before it leaves the
	// group there, and it is delivered again.
	err := g.p.update(func(tx *bbolt.Tx) error {
		return errors.Join(tx.Bucket(layout.BucketGroups).DeleteBucket(layout.GroupKey(g.id)), tx.Bucket(layout.BucketCatalog).Delete(layout.GroupKey(g.id)))
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.p.entries = slices.DeleteFunc(slices.Clone(g.p.entries), func(e entry) bool { return e.id == g.id })
	return nil
}
