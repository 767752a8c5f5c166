package bolt

import (
	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
)

// copyRest replaces in to the buckets and marks that a partition has beside its events by those of others: hosts and
// the writer's place are those of the one with the last batch, the account of hosts' completeness and leaves those
// of all.
func copyRest(to *bbolt.Tx, from []*bbolt.Tx) error {
	var last *bbolt.Tx
	place := uint64(0)
	for _, tx := range from {
		if st, err := layout.DecodeState(tx.Bucket(layout.BucketMarks).Get(layout.KeyState)); err == nil && st.ID >= max(place, 1) {
			last, place = tx, st.ID
		}
	}
	for _, name := range [][]byte{layout.BucketHosts, layout.BucketLedger, layout.BucketSeal} {
		if to.Bucket(name) != nil {
			if err := to.DeleteBucket(name); err != nil {
				return err
			}
		}
	}
	hosts, err := to.CreateBucket(layout.BucketHosts)
	if err != nil {
		return err
	}
	hosts.FillPercent = hostsFill
	marks := to.Bucket(layout.BucketMarks)
	if last != nil {
		if err := copyInto(hosts, last.Bucket(layout.BucketHosts)); err != nil {
			return err
		}
		if err := marks.Put(layout.KeyState, last.Bucket(layout.BucketMarks).Get(layout.KeyState)); err != nil {
			return err
		}
	} else if err := marks.Delete(layout.KeyState); err != nil {
		return err
	}
	for _, tx := range from {
		if src := tx.Bucket(layout.BucketSeal); src != nil {
			bkt, err := to.CreateBucketIfNotExists(layout.BucketSeal)
			if err != nil {
				return err
			}
			bkt.FillPercent = hostsFill
			if err := copyInto(bkt, src); err != nil {
				return err
			}
		}
		src := tx.Bucket(layout.BucketLedger)
		if src == nil {
			continue
		}
		bkt, err := to.CreateBucketIfNotExists(layout.BucketLedger)
		if err != nil {
			return err
		}
		bkt.FillPercent = hostsFill
		if err := src.ForEach(func(k, v []byte) error { return addLedger(bkt, k, v, tx == last) }); err != nil {
			return err
		}
	}
	return nil
}

func copyInto(to, from *bbolt.Bucket) error {
	return from.ForEach(func(k, v []byte) error { return to.Put(k, v) })
}

// addLedger adds what a partition knows of hosts' completeness to what another one does. What is followed of a
// host is that of the last batch.
func addLedger(bkt *bbolt.Bucket, k, v []byte, last bool) error {
	if _, ok := layout.TrackerHost(k); ok && !last {
		return nil
	}
	if bkt.Get(k) == nil {
		return bkt.Put(k, v)
	}
	if host, length, start, ok := layout.ParseRowKey(k); ok {
		row, err := layout.DecodeRow(k, v, length, start)
		if err != nil {
			return nil //nolint:nilerr // what is damaged is unknown
		}
		return addRow(bkt, string(host), row)
	}
	if r, ok := layout.DecodeReceived(k, v); ok {
		return putReceived(bkt, &r)
	}
	if _, ok := layout.PastHost(k); ok {
		b, err := layout.CutSum(k, v)
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		past, err := ledger.ParsePast(b)
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		sum := loadPast(bkt, k)
		for _, r := range past {
			sum.Merge(r)
		}
		return bkt.Put(k, layout.AddSum(k, sum.Append(nil)))
	}
	return bkt.Put(k, v)
}
