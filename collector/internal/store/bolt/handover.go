package bolt

import (
	"bytes"
	"context"
	"slices"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
)

// A file whose events another engine has is dropped, and what it knows of hosts' completeness goes to the one that is written: for a large fleet that is the account of all
// its hosts on all days that the engine keeps, each midnight. It goes in pieces of some hosts, and batches are stored between them. Each piece is one transaction of the file
// that gets it, with a mark that says up to which host that has the account. So whoever reads both knows which of them to believe of a host, and what a crash cuts short goes
// on behind that host. A file that has passed on a piece does not change any more but by aging: no batch goes to it (writable), and it is not merged (beingDropped).

// A piece has at most so many hosts, and so many bytes where it has more than one.
const (
	pieceHosts = 1000
	pieceBytes = 4 << 20
)

// dropHandedOver removes the partitions whose groups the engine has, which are those up to through: all but that of the last batch, which has
// the writer's state. bbolt does not give room back: the file goes as a whole. Snapshots that read it go on.
func (s *Store) dropHandedOver(ctx context.Context, through uint64) error {
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if more, err = s.dropSome(through); err != nil {
			return err
		}
	}
	return nil
}

// dropSome passes on a piece of one of these partitions, and drops it where that was the last one. more says that there may be more to do.
func (s *Store) dropSome(through uint64) (more bool, err error) {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	s.mu.Lock()
	parts, cur := s.parts, s.cur // replaced, never changed
	var done []*partition
	for _, p := range parts {
		if p != cur && lastBatch(p.entries) <= through {
			done = append(done, p)
		}
	}
	s.mu.Unlock()
	if cur == nil { // it was lost: the next batch makes one
		return false, nil
	}
	for _, p := range done {
		first, err := passingTo(parts, p)
		if err != nil {
			return false, err
		}
		if first != nil { // its mark would go with p, so it goes first
			if !slices.Contains(done, first) {
				continue
			}
			p = first
		}
		if more, err := s.passSome(p); err != nil || more {
			return more, err
		}
		return true, s.dropLocked(p.part, whyHandedOver, false) // its events are elsewhere
	}
	return false, nil
}

// passingTo returns one of the partitions whose account heir has, or some of it; nil: there is none.
func passingTo(parts []*partition, heir *partition) (from *partition, err error) {
	err = heir.view(func(tx *bbolt.Tx) error {
		bkt := tx.Bucket(layout.BucketLedger)
		if bkt == nil {
			return nil
		}
		layout.EachInherited(bkt, func(mark, _ []byte) {
			for _, p := range parts {
				if p != heir && bytes.Equal(p.mark(), mark) {
					from = p
				}
			}
		})
		return nil
	})
	return from, err
}

// passesOn reports whether another partition has some of what p knows.
func passesOn(parts []*partition, p *partition) bool {
	heir, _ := passedOnTo(parts, p)
	return heir != nil
}

// passedOnTo returns the partition that has some of what p knows, and up to which host; no host: all. nil: none has. One that cannot be read has nothing that counts.
func passedOnTo(parts []*partition, p *partition) (heir *partition, last []byte) {
	for _, x := range parts {
		if x == p {
			continue
		}
		if last, is, err := passedTo(x, p.mark()); err == nil && is {
			return x, last
		}
	}
	return nil, nil
}

// passSome puts the next piece of what p knows of hosts into the partition that has some of it already, for batches may have gone to another one since, else into the
// one that is written. more says that there are more. appendMu is held.
func (s *Store) passSome(p *partition) (more bool, err error) {
	s.mu.Lock()
	parts, cur := s.parts, s.cur
	s.mu.Unlock()
	heir, after := passedOnTo(parts, p)
	if heir == nil {
		heir = cur
	} else if len(after) == 0 {
		return false, nil
	}
	s.passedOn.Add(1)
	list, last, more, err := p.piece(string(after))
	heir.beside += sizeOf(list)
	if err != nil || len(list) == 0 && after == nil { // it knows nothing
		return false, err
	}
	if !more {
		last = nil
	}
	return more, heir.written(func() error {
		return heir.update(func(tx *bbolt.Tx) error {
			bkt, err := tx.CreateBucketIfNotExists(layout.BucketLedger)
			if err != nil {
				return err
			}
			bkt.FillPercent = hostsFill
			for _, kv := range list {
				if err := addLedger(bkt, kv.Key, kv.Value, false); err != nil {
					return err
				}
			}
			key := p.mark()
			return bkt.Put(key, layout.AddSum(key, slices.Clip(last)))
		})
	})
}

// piece copies what a partition knows of some hosts, those after one, and returns the last of them, and whether there are more.
func (p *partition) piece(after string) (list []store.KV, last []byte, more bool, err error) {
	err = p.view(func(tx *bbolt.Tx) error {
		hosts, size := 0, 0
		err := eachKeys(tx, after, daysReceived(tx), func(host []byte, of []store.KV) error {
			if hosts == pieceHosts || size >= pieceBytes {
				more = true
				return errEnough
			}
			hosts++
			last = bytes.Clone(host)
			for _, kv := range of {
				size += len(kv.Key) + len(kv.Value)
				list = append(list, store.KV{Key: bytes.Clone(kv.Key), Value: bytes.Clone(kv.Value)})
			}
			return nil
		})
		if more {
			err = nil
		}
		return err
	})
	return list, last, more, err
}

// renewEvery is how often at most another file is begun for the room in the one that is written.
const renewEvery = 10 * time.Minute

// renew begins another file where the one that is written has no group any more, and much more room than what stands beside groups takes: what waited there is delivered, bbolt
// gives no room back, and where that was the disk's last, senders would be refused until the next day. slack is how much that is at least. It reports whether it has begun one.
func (s *Store) renew(slack int64) (bool, error) {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	s.mu.Lock()
	closed, cur := s.closed, s.cur
	s.mu.Unlock()
	at := s.opts.now()
	if closed || cur == nil || len(cur.entries) > 0 || at.Sub(s.renewed).Abs() < renewEvery {
		return false, nil
	}
	// Pages are not full, and some are free that were written anew.
	if size := int64((&partView{p: cur}).stats().DiskBytes); size < 3*cur.beside+slack { //nolint:gosec // of a file
		return false, nil
	}
	s.renewed = at
	ms := at.UnixMilli()
	return true, s.rotate(cur, ms-ms%ledger.Hour-keepHours)
}

func sizeOf(list []store.KV) (size int64) {
	for _, kv := range list {
		size += int64(len(kv.Key) + len(kv.Value))
	}
	return size
}
