package bolt

import (
	"slices"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
)

// owe has the log say what a partition knows of hosts' completeness, now that no batch goes to it any more: behind
// the leaves of its batches, which come into the log apart from the way of a record. appendMu is held.
func (s *Store) owe(p *partition) {
	if s.tree != nil && keepsSeal && p.compacted == nil && !p.ofImport() && !s.elsewhere.Load() && !slices.Contains(s.owed, p) {
		s.owed = append(s.owed, p)
	}
}

// oweAll owes what a process that died left undone, and what a log that lost its end has not. Open alone calls it.
func (s *Store) oweAll() {
	logged := s.tree.LastBatch()
	var last *partition // whose batches are all in the log
	for _, p := range s.parts {
		switch {
		case p == s.cur, p.compacted != nil, p.ofImport(): // all of that was in the log before it was made, or it has none
		case p.lastEntry() > logged:
			s.owe(p)
		case last == nil || p.lastEntry() > last.lastEntry():
			last = p
		}
	}
	if last == nil {
		return
	}
	there := false
	err := s.tree.After(last.lastEntry(), func(l *seal.Leaf) bool {
		there = l.Kind == seal.Account && l.Part == last.part.String()
		return !there
	})
	if err == nil && !there { // what cannot be read is said elsewhere
		s.owe(last)
	}
}

// lastEntry returns the last batch with events; 0 where there is none.
func (p *partition) lastEntry() uint64 { return lastBatch(p.entries) }

// accounts returns the leaves that are owed and whose place has come, behind the leaf of a partition's last batch: so
// they stand where they did when the end of a log is made again. later is what stays owed. appendMu is held.
func (s *Store) accounts(upTo uint64) (list []toLog, later []*partition) {
	if len(s.owed) == 0 {
		return nil, nil
	}
	s.mu.Lock()
	var now []*partition
	for _, p := range s.owed {
		switch {
		case p == s.cur || !slices.Contains(s.parts, p): // written again, or dropped
		case p.lastEntry() > upTo:
			later = append(later, p)
		default:
			now = append(now, p)
		}
	}
	s.mu.Unlock()
	for _, p := range now {
		leaf, err := s.account(p)
		if err != nil {
			s.log.Warn("what a day has of hosts' completeness is not in the log of what was stored yet", "partition", p.path, "error", err)
			later = append(later, p)
			continue
		}
		list = append(list, toLog{p.lastEntry(), leaf, true})
	}
	return list, later
}

// account makes the leaf of what a partition knows. It is the same whenever it is made: its time is the end of the day.
func (s *Store) account(p *partition) ([]byte, error) {
	sum, err := p.rowSum()
	if err != nil {
		return nil, err
	}
	l := &seal.Leaf{Kind: seal.Account, Store: s.list.id, At: (int64(p.part.Day) + 1) * ledger.Day, Part: p.part.String(), Batch: p.lastEntry(),
		Groups: sum.Rows, Size: sum.Bytes, Hash: sum.Sum()}
	return l.Encode(), nil
}

// rowSum adds up the rows of hosts' completeness.
func (p *partition) rowSum() (*layout.RowSum, error) {
	sum := layout.NewRowSum()
	return sum, p.view(func(tx *bbolt.Tx) error {
		bkt := tx.Bucket(layout.BucketLedger)
		if bkt == nil {
			return nil
		}
		return bkt.ForEach(func(k, v []byte) error { sum.Add(k, v); return nil })
	})
}

// sealHolds has the log say that the list of holds was changed, from how it was to how it is.
func (s *Store) sealHolds(was, is store.Held, holds int, why string) error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	if _, err := s.lastBatch(); err != nil {
		return err
	}
	err := s.tree.Append(&seal.Leaf{Kind: seal.Holds, Store: s.list.id, At: now().UnixMilli(), First: is.Generation, Groups: uint64(holds),
		Hash: is.Hash, EventsRoot: was.Hash, Why: seal.Clip(why)})
	if err == nil {
		s.partSealed() // so that it is signed soon
	}
	return err
}
