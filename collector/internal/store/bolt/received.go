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

// A batch may be divided by classes, each of which the engine drops by itself. Rows know nothing of classes, so what the batch has of each is counted beside them, from its
// events.

// addReceived adds what a batch's rows count to what came on its day, and what it has of classes.
func addReceived(tx *bbolt.Tx, day store.Day, list []store.HostLedger, classes []layout.Received) error {
	if len(list) == 0 {
		return nil
	}
	bkt, err := tx.CreateBucketIfNotExists(layout.BucketLedger)
	if err != nil {
		return err
	}
	bkt.FillPercent = hostsFill
	for i := range classes {
		if err := putReceived(bkt, &classes[i]); err != nil {
			return err
		}
	}
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

// classesReceived counts what a batch has of each class, by host and day, but for what rows do not count: events of mixed nodes, and of times that cannot be.
func classesReceived(b *store.Batch, d *store.Division) []layout.Received {
	type key struct {
		class int
		host  string
		start int64
	}
	sums := map[key]*layout.Received{}
	day := b.Day.Time().UnixMilli()
	next := d.Places()
	hosts := b.Events.Hosts()
	for i := range hosts {
		h := &hosts[i]
		var last *layout.Received
		var lastKey key
		for _, at := range h.Order() {
			e := &h.Events[at]
			class, _ := next()
			if h.Name == "" || e.Ms <= day-ledger.Oldest || e.Ms > day+ledger.Day+ledger.Newest {
				continue
			}
			k := key{class, h.Name, ledger.DayOf(e.Ms)}
			if last == nil || k != lastKey {
				if last = sums[k]; last == nil {
					last = &layout.Received{Day: b.Day, Class: d.Classes[class].Name, Host: h.Name, Start: k.start, From: e.Ms, To: e.Ms}
					sums[k] = last
				}
				lastKey = k
			}
			last.Records, last.Events = last.Records+uint64(e.Records), last.Events+1
			last.From, last.To = min(last.From, e.Ms), max(last.To, e.Ms)
		}
	}
	out := make([]layout.Received, 0, len(sums))
	for _, r := range sums { // by hours
		r.From -= (r.From - r.Start) % ledger.Hour
		r.To += ledger.Hour - (r.To-r.Start)%ledger.Hour
		out = append(out, *r)
	}
	// In the order of their keys, as writeLedger puts what it has: the length of a host's name comes first in these, and the class behind it.
	slices.SortFunc(out, func(a, b layout.Received) int {
		return cmp.Or(cmp.Compare(len(a.Host), len(b.Host)), cmp.Compare(a.Host, b.Host), cmp.Compare(len(a.Class), len(b.Class)), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Start, b.Start))
	})
	return out
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

// gones are what the engine has dropped, with a time for each: all of days, and classes of days.
type gones struct {
	days    map[store.Day]int64
	classes map[dayClass]int64
	// there are, of days of which an undivided part was dropped, the classes of which there are other parts: what came of the others is gone.
	there map[store.Day][]string
	// last is the last batch that there was when the engine was asked: what came of a class since is in another part of the same day.
	last uint64
}

// class returns whether a class of a day is gone, and when.
func (g *gones) class(day store.Day, class string) (at int64, is bool) {
	if at, is = g.classes[dayClass{day, class}]; is {
		return at, true
	}
	at, is = g.classes[dayClass{day, store.Undivided}]
	return at, is && !slices.Contains(g.there[day], class)
}

type dayClass struct {
	day   store.Day
	class string
}

// touched are the days of receipt that something is known of which changes. What comes of an hour that ran at midnight is counted to the next day.
func (g *gones) touched() []store.Day {
	out := map[store.Day]bool{}
	for day := range g.days {
		out[day] = true
	}
	for c := range g.classes {
		out[c.day], out[c.day+1] = true, true
	}
	return slices.Sorted(maps.Keys(out))
}

// age makes pasts of what is known of days whose events the engine has dropped, or some class of them: some hosts in each transaction, so that a crash leaves
// each host's as it was or as it is to be. What a partition had that is handed over meanwhile may be in one that is made meanwhile, so all are looked through once more then.
func (s *Store) age(g gones) error {
	for {
		s.mu.Lock()
		parts := s.parts // replaced, never changed
		s.mu.Unlock()
		before := s.passedOn.Load()
		if all, err := s.ageParts(parts, &g); err != nil || all && s.passedOn.Load() == before {
			return err
		}
	}
}

// errLater says that a batch of a day came meanwhile which may have events of a class of it that is gone: the engine is asked once more.
var errLater = errors.New("a batch came meanwhile")

// errMoved says that a partition was handed over meanwhile: what it had is in another one.
var errMoved = errors.New("the partition is handed over")

// ageParts does it for partitions, and reports whether all of them were there to the end.
func (s *Store) ageParts(parts []*partition, g *gones) (all bool, err error) {
	all = true
	for _, p := range parts {
		if p.ofImport() || p.compacted != nil {
			continue
		}
		for more, after := true, ""; more; {
			more, after, err = s.ageSome(p, after, g)
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
	gone [][]byte          // keys of rows, and of what came on the days
	less []layout.Received // what is left of what came
	past ledger.Past
}

// takeClasses puts into the past what came of classes that are gone, and takes it off what came in all, which it returns.
func (a *aging) takeClasses(received []layout.Received, g *gones) (all []layout.Received) {
	var changed []bool
	for i := range received {
		if received[i].Class == "" {
			all, changed = append(all, received[i]), append(changed, false)
		}
	}
	for i := range received {
		r := &received[i]
		at, is := g.class(r.Day, r.Class)
		if _, whole := g.days[r.Day]; r.Class == "" || !is && !whole {
			continue
		}
		key, _ := r.Encode()
		a.gone = append(a.gone, key)
		if !is {
			continue
		}
		cause := ledger.Retention
		if store.IsKeyClass(r.Class) {
			cause = ledger.ClassRetention
		}
		a.past.Drop(cause, r.From, r.To, r.Records, r.Events, at)
		records, events := r.Records, r.Events
		for day := r.Day; day <= r.Day+1; day++ {
			for j := range all {
				if x := &all[j]; x.Day == day && x.Start == r.Start {
					lessR, lessE := min(records, x.Records), min(events, x.Events)
					x.Records, x.Events, records, events, changed[j] = x.Records-lessR, x.Events-lessE, records-lessR, events-lessE, true
				}
			}
		}
	}
	for j := range all {
		if changed[j] {
			a.less = append(a.less, all[j])
		}
	}
	return all
}

// take makes a past of the rows of days that are gone, and of what came on these days and of these classes.
func (a *aging) take(rows []*ledger.Row, received []layout.Received, g *gones) {
	all, days := a.takeClasses(received, g), g.days
	received = slices.DeleteFunc(all, func(r layout.Received) bool { _, is := days[r.Day]; return !is })
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
		if some := r.Records+r.Events > 0; some && (!whole[r.Start] || r.Day.Time().UnixMilli() != r.Start) {
			a.past.Drop(ledger.Retention, r.From, r.To, r.Records, r.Events, days[r.Day])
		}
		key, _ := r.Encode()
		a.gone = append(a.gone, key)
	}
}

// ageSome does it for some hosts of a partition, those after one, and returns the last of them. Error: errMoved, store.ErrClosed.
func (s *Store) ageSome(p *partition, after string, g *gones) (more bool, last string, err error) {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	s.mu.Lock()
	closed, there, came := s.closed, slices.Contains(s.parts, p), false
	for c := range g.classes {
		came = came || s.lastOf[c.day] > g.last
	}
	s.mu.Unlock()
	switch {
	case closed:
		return false, "", store.ErrClosed
	case !there:
		return false, "", errMoved
	case came:
		return false, "", errLater
	}
	var list []aging
	err = p.view(func(tx *bbolt.Tx) error {
		seen := 0
		err := eachHost(tx, after, g.touched(), func(host string, k *known) error {
			if seen == pieceHosts {
				more = true
				return errEnough
			}
			seen, last = seen+1, host
			a := aging{host: host, past: k.past}
			a.take(k.rows, k.received, g)
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
				for i := range a.less {
					key, value := a.less[i].Encode()
					if err := bkt.Put(key, value); err != nil {
						return err
					}
				}
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
