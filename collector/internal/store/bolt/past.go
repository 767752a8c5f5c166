package bolt

import (
	"bytes"
	"errors"
	"slices"
	"sort"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
)

// What is known of hosts' completeness outlives the records: before a partition is dropped, its
// rows go, condensed, to the partition that is dropped next. So one file has what is known of
// all the days before, and no day's file is larger for it.

// bequeathHosts is how many hosts' pasts a transaction writes: each has some 12 KB, 250 at most.
const bequeathHosts = 1000

// mark returns the key of the mark, in another partition, that what p knows of hosts went there.
func (p *partition) mark() []byte { return layout.InheritedKey(p.part, p.place) }

// passedTo returns up to which host heir has what another partition knows, by its mark; ok is false where it has none.
func passedTo(heir *partition, mark []byte) (last []byte, ok bool, err error) {
	err = heir.view(func(tx *bbolt.Tx) error {
		last, ok = passed(tx, mark)
		return nil
	})
	return last, ok, err
}

// passed is passedTo in a transaction. An empty host stands for all.
func passed(tx *bbolt.Tx, mark []byte) (last []byte, ok bool) {
	bkt := tx.Bucket(layout.BucketLedger)
	if bkt == nil {
		return nil, false
	}
	v := bkt.Get(mark)
	if v == nil {
		return nil, false
	}
	last, err := layout.CutSum(mark, v)
	return bytes.Clone(last), err == nil
}

// errEnough ends a walk.
var errEnough = errors.New("enough")

// bequeath puts what p knows of hosts' completeness into heir, some hosts in each transaction. What
// a crash cuts short goes on after the last host that the mark in heir has. appendMu is held.
func (s *Store) bequeath(p, heir *partition, at int64) error {
	return heir.written(func() error {
		return p.pastsFor(heir, at, func(list []hostPast) error {
			return heir.update(func(tx *bbolt.Tx) error { return addPasts(tx, list, p.mark(), at) })
		})
	})
}

// pastsFor calls fn with what p knows of hosts that heir does not know yet, some hosts at a time.
func (p *partition) pastsFor(heir *partition, at int64, fn func([]hostPast) error) error {
	last, _, err := passedTo(heir, p.mark())
	if err != nil {
		return err
	}
	gone, err := p.gone()
	if err != nil {
		return err
	}
	after := string(last)
	for more := true; more; {
		var list []hostPast
		if list, more, err = p.pasts(after, at, gone); err != nil || len(list) == 0 {
			return err
		}
		after = list[len(list)-1].host
		if err := fn(list); err != nil {
			return err
		}
	}
	return nil
}

// written runs f while the partition can be written.
func (p *partition) written(f func() error) error {
	write := p.canWrite()
	if err := p.reopen(true); err != nil {
		return err
	}
	err := f()
	if !write {
		err = errors.Join(err, p.reopen(false))
	}
	return err
}

// left returns what p knows of hosts that heir does not know yet.
func (p *partition) left(heir *partition, at int64) (all []hostPast, err error) {
	err = p.pastsFor(heir, at, func(list []hostPast) error {
		all = append(all, list...)
		return nil
	})
	return all, err
}

// inherit adds what was known of hosts in a partition that is gone.
func (p *partition) inherit(mark []byte, list []hostPast, at int64) error {
	return p.written(func() error {
		for some := range slices.Chunk(list, bequeathHosts) {
			if err := p.update(func(tx *bbolt.Tx) error { return addPasts(tx, some, mark, at) }); err != nil {
				return err
			}
		}
		return nil
	})
}

type hostPast struct {
	host string
	past ledger.Past
}

// pasts returns what a partition knows of the hosts after one, condensed, and what is dropped of them with it where it has only
// some of a day's events; more says that there are more hosts.
func (p *partition) pasts(after string, at int64, gone []hostGone) (list []hostPast, more bool, err error) {
	gone = gone[sort.Search(len(gone), func(i int) bool { return after == "" || layout.Before([]byte(after), []byte(gone[i].host)) }):]
	add := func(host string, past ledger.Past) error {
		if len(list) == bequeathHosts {
			more = true
			return errEnough
		}
		if len(gone) > 0 && gone[0].host == host {
			past.Drop(p.cause(), gone[0].from, gone[0].to, gone[0].records, gone[0].events, at)
			gone = gone[1:]
		}
		past.Expire(at)
		list = append(list, hostPast{host, past})
		return nil
	}
	// until adds hosts that have events there and no rows, up to one.
	until := func(host []byte) error {
		for len(gone) > 0 && (host == nil || layout.Before([]byte(gone[0].host), host)) {
			if err := add(gone[0].host, nil); err != nil {
				return err
			}
		}
		return nil
	}
	err = p.view(func(tx *bbolt.Tx) error {
		return eachHost(tx, after, nil, func(host string, k *known) error {
			if err := until([]byte(host)); err != nil {
				return err
			}
			past := k.past
			for _, r := range k.rows {
				if p.divided() {
					past.Keep(r, at)
				} else {
					past.Add(r, at)
				}
			}
			return add(host, past)
		})
	})
	if err == nil {
		err = until(nil)
	}
	if errors.Is(err, errEnough) {
		err = nil
	}
	return list, more, err
}

// addPasts adds to what heir knows, with the mark that says how far that is.
func addPasts(tx *bbolt.Tx, list []hostPast, mark []byte, at int64) error {
	bkt, err := tx.CreateBucketIfNotExists(layout.BucketLedger)
	if err != nil {
		return err
	}
	for _, h := range list {
		key := layout.PastKey(h.host)
		sum := loadPast(bkt, key)
		for _, r := range h.past {
			sum.Merge(r)
		}
		if sum.Expire(at); len(sum) == 0 {
			continue
		}
		if err := bkt.Put(key, layout.AddSum(key, sum.Append(nil))); err != nil {
			return err
		}
	}
	return bkt.Put(mark, layout.AddSum(mark, []byte(list[len(list)-1].host)))
}

// loadPast reads a host's past; one that is damaged is unknown.
func loadPast(bkt *bbolt.Bucket, key []byte) ledger.Past {
	v := bkt.Get(key)
	if v == nil {
		return nil
	}
	b, err := layout.CutSum(key, v)
	if err != nil {
		return nil
	}
	past, err := ledger.ParsePast(b)
	if err != nil {
		return nil
	}
	return past
}

// heirOf returns the partition that gets what p knows: one that has a part of it already, for a drop was cut short,
// and days have come or gone since; else the one that is dropped after p, as far as can be told; nil where there is none.
func (s *Store) heirOf(p *partition) *partition {
	s.mu.Lock()
	parts, cur := s.parts, s.cur // replaced, never changed
	s.mu.Unlock()
	for _, x := range parts {
		if x == p || x.ofImport() {
			continue
		}
		if _, ok, err := passedTo(x, p.mark()); err == nil && ok { // what cannot be read cannot be gone on with
			return x
		}
	}
	for _, x := range parts {
		if x.part.Compare(p.part) > 0 && !x.ofImport() {
			return x
		}
	}
	if cur != p {
		return cur
	}
	return nil
}
