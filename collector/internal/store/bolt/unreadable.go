package bolt

import (
	"errors"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// unreadable is what searches found damaged in partitions that otherwise are whole: a group, or a
// block of one. It is remembered until the partition is dropped or repaired, or the store is closed:
// searches meet it again and say so themselves, and Missing says it to those who ask what there is.
type unreadable struct {
	p     *partition
	group uint64
	block int // -1: the group
	err   *lostError
}

// mostUnreadable is how many are told apart; of a partition with more, the rest is one.
const mostUnreadable = 256

// noteDamage remembers what a reader could not read of a group: a block, or all of it where block
// is -1 and b is nil. s.mu is not held.
func (s *Store) noteDamage(p *partition, id uint64, block int, b *group.Block, err error) {
	if !errors.Is(err, store.ErrDamaged) {
		return // it may be readable the next time
	}
	if b == nil && s.readable(p, id) {
		return // what is damaged helps some questions, and its events are there
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := unreadable{p: p, group: id, block: block, err: &lostError{error: err}}
	known := slices.ContainsFunc(s.unreadable, func(x unreadable) bool {
		return x.p == p && x.group == id && (x.block == block || x.block < 0)
	})
	if known || p.dropped {
		return
	}
	switch i := slices.IndexFunc(p.entries, func(e entry) bool { return e.id == id }); {
	case b != nil:
		u.err.of = manifest.Loss{MinMs: b.MinMs, MaxMs: b.MaxMs, Records: uint64(b.Records), Hosts: 1}
		u.err.host = b.Host
	case i >= 0:
		addExtent(&u.err.of, &p.entries[i].sum)
	}
	if len(s.unreadable) >= mostUnreadable {
		u.group, u.block, u.err.host, u.err.of = 0, -1, "", s.extent(p)
		if slices.ContainsFunc(s.unreadable, func(x unreadable) bool { return x.p == p && x.group == 0 }) {
			return
		}
	}
	s.unreadable = append(s.unreadable, u)
	s.log.Error("a search found damage in the store: run `collector verify`", "partition", p.path, "error", err)
}

// readable reports whether a question that needs no part of the index finds a group's blocks.
func (s *Store) readable(p *partition, id uint64) bool {
	all := &query.Query{}
	return p.withGroup(id, func(g *group.Group) error {
		_, _, err := candidates(g, all, store.ConditionsOf(all))
		return err
	}) == nil
}

// forgetUnreadable forgets what was found in a partition that is gone or new; s.mu is held.
func (s *Store) forgetUnreadable(p *partition) {
	s.unreadable = slices.DeleteFunc(s.unreadable, func(u unreadable) bool { return u.p == p })
}
