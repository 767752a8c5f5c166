package bolt

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
)

// Ledger calls fn with the rows of hosts; see store.Place. Rows that are damaged are left out:
// what they said is unknown then, which is what their absence says.
func (s *Store) Ledger(ctx context.Context, hosts []string, from, to int64, fn func(host string, row *ledger.Row)) (id uint64, err error) {
	hosts = slices.Clone(hosts)
	slices.SortFunc(hosts, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }) // about as keys do
	var found []partRows
	passedOn := map[string][]byte{} // by mark, up to which host rows are in another partition, too
	err = s.eachPart(ctx, func(p *partition, tx *bbolt.Tx) error {
		last := placeIn(tx)
		id = max(id, last)
		bkt := tx.Bucket(layout.BucketLedger)
		if bkt == nil {
			return nil
		}
		layout.EachInherited(bkt, func(mark, last []byte) { passedOn[string(mark)] = bytes.Clone(last) })
		of := partRows{mark: layout.InheritedKey(p.part, last)}
		c := bkt.Cursor()
		for _, host := range hosts {
			add := func(host string, row *ledger.Row) { of.rows = append(of.rows, hostRow{host, row}) }
			eachRow(c, host, from, to, add)
			for _, r := range loadPast(bkt, layout.PastKey(host)) {
				if r.Start < to && r.Start+r.Length > from {
					add(host, r)
				}
			}
		}
		found = append(found, of)
		return nil
	})
	for i := range found {
		found[i].give(passedOn, fn)
	}
	return id, err
}

// partRows are rows of one partition. While it is dropped, another one gets them, host by host, and whoever asks
// meanwhile may read both: each as it is at one moment, and the partition's own never change then.
type partRows struct {
	mark []byte
	rows []hostRow
}

type hostRow struct {
	host string
	row  *ledger.Row
}

// give calls fn with the rows that no other partition has by its mark.
func (of *partRows) give(passedOn map[string][]byte, fn func(string, *ledger.Row)) {
	last, some := passedOn[string(of.mark)]
	for _, r := range of.rows {
		if some && (len(last) == 0 || !layout.Before(last, []byte(r.host))) {
			continue
		}
		fn(r.host, r.row)
	}
}

// LedgerHosts calls fn with each host that has rows, once for each partition.
func (s *Store) LedgerHosts(ctx context.Context, fn func(host []byte)) error {
	return s.eachPart(ctx, func(_ *partition, tx *bbolt.Tx) error {
		bkt := tx.Bucket(layout.BucketLedger)
		if bkt == nil {
			return nil
		}
		c := bkt.Cursor()
		var last []byte
		for k, _ := c.Seek([]byte{'p'}); k != nil; k, _ = c.Next() {
			host, isPast := layout.PastHost(k)
			if !isPast {
				var isRow bool
				if host, _, _, isRow = layout.ParseRowKey(k); !isRow {
					break
				}
			}
			if last == nil || !bytes.Equal(host, last) {
				last = host
				fn(host)
			}
		}
		return nil
	})
}

// eachPart calls fn with each partition, the one that is written first: what a batch changes meanwhile is in there.
// What cannot be read of one is unknown.
func (s *Store) eachPart(ctx context.Context, fn func(p *partition, tx *bbolt.Tx) error) (err error) {
	sn, err := s.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sn.Close()) }()
	snap := sn.(*snapshot)
	parts := slices.Clone(snap.parts)
	slices.Reverse(parts)
	// It is not the last one after the clock went back.
	slices.SortStableFunc(parts, func(a, b partView) int {
		switch snap.cur {
		case a.p:
			return -1
		case b.p:
			return 1
		}
		return 0
	})
	for _, v := range parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := v.p.view(func(tx *bbolt.Tx) error { return fn(v.p, tx) }); err != nil {
			s.log.Warn("what a partition knows of hosts' completeness cannot be read: it is unknown", "partition", v.p.path, "error", err)
		}
	}
	return nil
}

// eachRow calls fn with a host's rows in a partition.
func eachRow(c *bbolt.Cursor, host string, from, to int64, fn func(string, *ledger.Row)) {
	prefix := layout.RowsOf(host)
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		_, length, start, ok := layout.ParseRowKey(k)
		if !ok || start >= to || start+length <= from {
			continue
		}
		if row, err := layout.DecodeRow(k, v, length, start); err == nil {
			fn(host, row)
		}
	}
}

// writeLedger adds a batch's rows to those that a partition has, and replaces what is followed
// of its hosts. With moved, carried replaces the same of all hosts before that.
//
// What sorts first is put first, rows before what is followed: a transaction's new keys are all in one page until it commits, and
// each that is put before others moves these. At midnight those are what is followed of every host.
func writeLedger(tx *bbolt.Tx, list []store.HostLedger, carried []store.KV, moved bool, forget []string) error {
	if len(list)+len(carried) == 0 && tx.Bucket(layout.BucketLedger) == nil {
		return nil
	}
	bkt, err := tx.CreateBucketIfNotExists(layout.BucketLedger)
	if err != nil {
		return err
	}
	bkt.FillPercent = hostsFill
	// The batch's own order stays: who asks about a host reads the batch meanwhile.
	list = slices.SortedFunc(slices.Values(list), func(a, b store.HostLedger) int { return cmp.Compare(a.Host, b.Host) })
	for _, l := range list {
		for _, row := range l.Rows {
			if err := addRow(bkt, l.Host, row); err != nil {
				return fmt.Errorf("ledger of %.80q: %w", l.Host, err)
			}
		}
	}
	if moved {
		for _, kv := range trackers(tx) { // of when the clock was here before
			if err := bkt.Delete(kv.Key); err != nil {
				return err
			}
		}
	}
	if err := putAll(bkt, carried); err != nil {
		return err
	}
	for _, host := range forget {
		if err := bkt.Delete(layout.TrackerKey(host)); err != nil {
			return err
		}
	}
	for _, l := range list {
		if l.Tracker == nil {
			continue
		}
		key := layout.TrackerKey(l.Host)
		if err := bkt.Put(key, layout.AddSum(key, slices.Clip(l.Tracker))); err != nil {
			return fmt.Errorf("ledger of %.80q: %w", l.Host, err)
		}
	}
	return nil
}

// addRow adds a row to the one that is there. The caller's stays as it is: the transaction may
// be tried again.
func addRow(bkt *bbolt.Bucket, host string, row *ledger.Row) error {
	key := layout.RowKey(host, row.Length, row.Start)
	if old := bkt.Get(key); old != nil {
		if sum, err := layout.DecodeRow(key, old, row.Length, row.Start); err == nil {
			sum.Add(row)
			row = sum
		}
	}
	return bkt.Put(key, layout.EncodeRow(key, row))
}

// hostsFill is how full a page of hosts, or of the ledger, is before it becomes two: hosts come and go seldom, so nearly all
// pages stay as they were first filled, in order of keys.
const hostsFill = 0.9

// keepHours is how long rows of hours stay such after their end, in milliseconds: each is as long as
// a day's.
const keepHours = ledger.Hour

// foldOld makes rows of days of a partition's rows of hours that are old when a batch is made: once
// an hour. It goes by the writer's clock, for a host can have any. folded is what the call before
// returned.
func foldOld(tx *bbolt.Tx, b *store.Batch, folded int64) (int64, error) {
	if b.At.IsZero() {
		return folded, nil
	}
	at := b.At.UnixMilli()
	hour := at - at%ledger.Hour
	if hour == folded || folded == 0 { // after a start: within the hour
		return hour, nil
	}
	return hour, foldLedger(tx, hour-keepHours)
}

// foldLedger makes rows of days of a partition's rows of hours that end by a time.
func foldLedger(tx *bbolt.Tx, until int64) error {
	bkt := tx.Bucket(layout.BucketLedger)
	if bkt == nil {
		return nil
	}
	bkt.FillPercent = hostsFill
	type hours struct {
		host string
		keys [][]byte
		sum  *ledger.Row
	}
	var list []hours
	c := bkt.Cursor()
	for k, v := c.Seek([]byte{'r'}); k != nil; k, v = c.Next() {
		host, length, start, ok := layout.ParseRowKey(k)
		if !ok || length != ledger.Hour || start+length > until {
			continue
		}
		row, err := layout.DecodeRow(k, v, length, start)
		if err != nil {
			continue
		}
		day := ledger.DayOf(start)
		if n := len(list); n == 0 || list[n-1].host != string(host) || list[n-1].sum.Start != day {
			list = append(list, hours{host: string(host), sum: &ledger.Row{Start: day, Length: ledger.Day}})
		}
		h := &list[len(list)-1]
		h.sum.Add(row)
		h.keys = append(h.keys, bytes.Clone(k))
	}
	for i := range list {
		for _, k := range list[i].keys {
			if err := bkt.Delete(k); err != nil {
				return err
			}
		}
		if err := addRow(bkt, list[i].host, list[i].sum); err != nil {
			return err
		}
	}
	return nil
}

// fold is foldLedger in a transaction of its own. A failure leaves the rows as they were, which
// is as good. Where nothing was written since the start, the file is open for reading only.
func (s *Store) fold(p *partition, until int64) {
	var err error
	if !p.canWrite() {
		err = p.reopen(true)
	}
	if err == nil {
		err = p.update(func(tx *bbolt.Tx) error { return foldLedger(tx, until) })
	}
	if err == nil {
		err = settle(p)
	}
	if err != nil {
		s.log.Warn("a day's account of hosts' completeness stays as it is, by hours", "partition", p.path, "error", err)
	}
}

// trackers copies what is followed of hosts.
func trackers(tx *bbolt.Tx) []store.KV {
	var out []store.KV
	bkt := tx.Bucket(layout.BucketLedger)
	if bkt == nil {
		return nil
	}
	c := bkt.Cursor()
	for k, v := c.Seek([]byte{'t'}); k != nil; k, v = c.Next() {
		out = append(out, store.KV{Key: bytes.Clone(k), Value: bytes.Clone(v)})
	}
	return out
}

// loadTrackers reads what is followed of hosts, by host.
func (p *partition) loadTrackers() (out []store.KV, bad, err error) {
	err = p.view(func(tx *bbolt.Tx) error {
		for _, kv := range trackers(tx) {
			host, _ := layout.TrackerHost(kv.Key)
			v, err := layout.CutSum(kv.Key, kv.Value)
			if err != nil {
				bad = errors.Join(bad, fmt.Errorf("%s: ledger of %.80q: %w", p.path, host, err))
				continue
			}
			out = append(out, store.KV{Key: []byte(host), Value: v})
		}
		return nil
	})
	return out, bad, err
}
