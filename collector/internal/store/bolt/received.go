package bolt

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
)

// Where another engine has the events, the rows of hosts' completeness are in no partition that is dropped with these: all of them come together in the file that is
// written. So how much came on which day stands beside them, and tells what is gone once the engine has dropped that day.

// addReceived adds what a batch's rows count to what came on its day.
func addReceived(tx *bbolt.Tx, day store.Day, list []store.HostLedger) error {
	if len(list) == 0 {
		return nil
	}
	bkt, err := tx.CreateBucketIfNotExists(layout.BucketLedger)
	if err != nil {
		return err
	}
	bkt.FillPercent = hostsFill
	for _, l := range slices.SortedFunc(slices.Values(list), func(a, b store.HostLedger) int { return cmp.Compare(a.Host, b.Host) }) {
		for _, row := range l.Rows {
			if len(row.Counts) == 0 {
				continue
			}
			sum := &ledger.Row{Start: ledger.DayOf(row.Start), Length: ledger.Day}
			sum.Add(&ledger.Row{Start: row.Start, Length: row.Length, Counts: row.Counts})
			r := layout.Received{Day: day, Host: l.Host, Start: sum.Start}
			for i, c := range sum.Counts {
				if i == 0 {
					r.From = sum.Start + int64(c.Slot)*ledger.Hour
				}
				r.To = sum.Start + int64(c.Slot+1)*ledger.Hour
				r.Records, r.Events = ledger.AddUp(r.Records, c.Records), ledger.AddUp(r.Events, c.Events)
			}
			if err := putReceived(bkt, &r); err != nil {
				return err
			}
		}
	}
	return nil
}

// putReceived adds to what stands under the same key.
func putReceived(bkt *bbolt.Bucket, r *layout.Received) error {
	key, value := r.Encode()
	if old := bkt.Get(key); old != nil {
		if was, ok := layout.DecodeReceived(key, old); ok {
			sum := *r
			sum.Records, sum.Events = ledger.AddUp(r.Records, was.Records), ledger.AddUp(r.Events, was.Events)
			sum.From, sum.To = min(r.From, was.From), max(r.To, was.To)
			key, value = sum.Encode()
		}
	}
	return bkt.Put(key, value)
}

// age makes pasts of what is known of days whose events the engine has dropped, at a time for each: some hosts in each transaction, so that a crash leaves
// each host's as it was or as it is to be. What a partition had that is handed over meanwhile may be in one that is made meanwhile, so all are looked through once more then.
func (s *Store) age(days map[store.Day]int64) error {
	for {
		s.mu.Lock()
		parts := s.parts // replaced, never changed
		s.mu.Unlock()
		before := s.passedOn.Load()
		if all, err := s.ageParts(parts, days); err != nil || all && s.passedOn.Load() == before {
			return err
		}
	}
}

// errMoved says that a partition was handed over meanwhile: what it had is in another one.
var errMoved = errors.New("the partition is handed over")

// ageParts does it for partitions, and reports whether all of them were there to the end.
func (s *Store) ageParts(parts []*partition, days map[store.Day]int64) (all bool, err error) {
	all = true
	for _, p := range parts {
		if p.ofImport() || p.compacted != nil {
			continue
		}
		for more, after := true, ""; more; {
			more, after, err = s.ageSome(p, after, days)
			if errors.Is(err, errMoved) {
				all = false
				break
			}
			if err != nil {
				return false, err
			}
		}
	}
	return all, nil
}

// aging is what becomes of a host.
type aging struct {
	host string
	gone [][]byte // keys of rows, and of what came on the days
	past ledger.Past
}

// take makes a past of the rows of days that are gone, and of what came on these days.
func (a *aging) take(rows []*ledger.Row, received []layout.Received, days map[store.Day]int64) {
	var records, events = map[int64]uint64{}, map[int64]uint64{} // by day, of the rows
	for _, r := range rows {
		for _, c := range r.Counts {
			day := ledger.DayOf(r.Start)
			records[day], events[day] = ledger.AddUp(records[day], c.Records), ledger.AddUp(events[day], c.Events)
		}
	}
	whole := map[int64]bool{} // days of which all has come on them: then a row says by itself what is gone, and closer
	for _, r := range received {
		whole[r.Start] = whole[r.Start] || r.Day.Time().UnixMilli() == r.Start && r.Records == records[r.Start] && r.Events == events[r.Start]
	}
	for _, r := range rows {
		day := ledger.DayOf(r.Start)
		at, is := days[store.Day(day/ledger.Day)]
		if !is {
			continue
		}
		if whole[day] {
			a.past.Add(r, at)
		} else {
			a.past.Keep(r, at)
		}
		a.gone = append(a.gone, layout.RowKey(a.host, r.Length, r.Start))
	}
	for i := range received {
		r := &received[i]
		if !whole[r.Start] || r.Day.Time().UnixMilli() != r.Start {
			a.past.Drop(ledger.Retention, r.From, r.To, r.Records, r.Events, days[r.Day])
		}
		key, _ := r.Encode()
		a.gone = append(a.gone, key)
	}
}

// ageSome does it for some hosts of a partition, those after one, and returns the last of them. Error: errMoved, store.ErrClosed.
func (s *Store) ageSome(p *partition, after string, days map[store.Day]int64) (more bool, last string, err error) {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	s.mu.Lock()
	closed, there := s.closed, slices.Contains(s.parts, p)
	s.mu.Unlock()
	switch {
	case closed:
		return false, "", store.ErrClosed
	case !there:
		return false, "", errMoved
	}
	var list []aging
	err = p.view(func(tx *bbolt.Tx) error {
		seen := 0
		err := eachHost(tx, after, slices.Sorted(maps.Keys(days)), func(host string, k *known) error {
			if seen == pieceHosts {
				more = true
				return errEnough
			}
			seen, last = seen+1, host
			a := aging{host: host, past: k.past}
			a.take(k.rows, k.received, days)
			if len(a.gone) > 0 {
				list = append(list, a)
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			err = nil
		}
		return err
	})
	if err != nil || len(list) == 0 {
		return more, last, err
	}
	now := s.opts.now().UnixMilli()
	return more, last, p.written(func() error {
		return p.update(func(tx *bbolt.Tx) error {
			bkt := tx.Bucket(layout.BucketLedger)
			for i := range list {
				a := &list[i]
				for _, key := range a.gone {
					if err := bkt.Delete(key); err != nil {
						return err
					}
				}
				key := layout.PastKey(a.host)
				if a.past.Expire(now); len(a.past) == 0 {
					if err := bkt.Delete(key); err != nil {
						return err
					}
					continue
				}
				if err := bkt.Put(key, layout.AddSum(key, a.past.Append(nil))); err != nil {
					return err
				}
			}
			return nil
		})
	})
}
