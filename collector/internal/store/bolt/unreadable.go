package bolt

import (
	"errors"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
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
	var list []*lostError
	if b != nil {
		list = []*lostError{lostBlocks(err, *b)}
	} else {
		list = s.lostOf(p, id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := slices.ContainsFunc(s.unreadable, func(x unreadable) bool {
		return x.p == p && x.group == id && (x.block == block || x.block < 0)
	})
	if known || p.dropped {
		return
	}
	if len(s.unreadable)+len(list) > mostUnreadable {
		id, block, list = 0, -1, []*lostError{{error: err, of: s.extent(p)}}
		if slices.ContainsFunc(s.unreadable, func(x unreadable) bool { return x.p == p && x.group == 0 }) {
			return
		}
	}
	for _, lost := range list {
		s.unreadable = append(s.unreadable, unreadable{p: p, group: id, block: block, err: lost})
	}
	s.log.Error("a search found damage in the store: run `collector verify`", "partition", p.path, "error", err)
}

// lostOf says what a group that cannot be read had: of each of its hosts where its block table is whole
// and they are few, else of all of them together. s.mu is not held.
func (s *Store) lostOf(p *partition, id uint64, err error) (list []*lostError) {
	blocks := p.blocksOf(id)
	for len(blocks) > 0 {
		n := slices.IndexFunc(blocks, func(b group.Block) bool { return b.Host != blocks[0].Host })
		if n < 0 {
			n = len(blocks)
		}
		list = append(list, lostBlocks(err, blocks[:n]...))
		blocks = blocks[n:]
	}
	if len(list) > 0 && len(list) <= mostUnreadable/4 {
		return list
	}
	lost := &lostError{error: err}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(p.entries, func(e entry) bool { return e.id == id }); i >= 0 {
		addExtent(&lost.of, &p.entries[i].sum)
	}
	return []*lostError{lost}
}

// lostBlocks is the loss of blocks of one host.
func lostBlocks(err error, blocks ...group.Block) *lostError {
	of := manifest.Loss{MinMs: blocks[0].MinMs, MaxMs: blocks[0].MaxMs, Hosts: 1}
	for i := range blocks {
		of.MinMs, of.MaxMs = min(of.MinMs, blocks[i].MinMs), max(of.MaxMs, blocks[i].MaxMs)
		of.Records += uint64(blocks[i].Records)
	}
	return &lostError{error: err, of: of, host: blocks[0].Host}
}

// blocksOf returns the blocks of a group that is damaged elsewhere, by host; none where they are not known.
func (p *partition) blocksOf(id uint64) (list []group.Block) {
	err := p.view(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(layout.BucketGroups).Bucket(layout.GroupKey(id)); b != nil {
			list = p.codec.Listed(b.Get(layout.KeyGroup))
		}
		return nil
	})
	if err != nil {
		return nil // bbolt's own pages are damaged
	}
	return list
}

// readable reports whether a question that needs no part of the index finds a group's blocks.
func (s *Store) readable(p *partition, id uint64) bool {
	all := &query.Query{}
	return p.withGroup(id, func(g *group.Group) error {
		_, _, _, err := candidates(g, all, store.ConditionsOf(all))
		return err
	}) == nil
}

// forgetUnreadable forgets what was found in a partition that is gone or new; s.mu is held.
func (s *Store) forgetUnreadable(p *partition) {
	s.unreadable = slices.DeleteFunc(s.unreadable, func(u unreadable) bool { return u.p == p })
}
