package bolt

import (
	"bytes"
	"encoding/binary"
	"slices"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
)

// What a partition knows of hosts' completeness stands under keys of several kinds: a host's past, its rows, and what came of it on each day. Each kind, and each day of
// receipt, has its hosts in the same order: by the length of the name, as its varint sorts, and the name. So one cursor for each of them reads host after host, and a walk
// that begins behind a host reads nothing of those before it.

// hostKeys is a cursor over the keys of one kind. Its bytes are valid within the transaction.
type hostKeys struct {
	c      *bbolt.Cursor
	prefix []byte // what the kind's keys begin with
	k, v   []byte // k is nil behind the last
	host   []byte // as k has it: its length and the name
}

// set takes a key, or the next one of the kind that has a host.
func (h *hostKeys) set(k, v []byte) {
	for ; bytes.HasPrefix(k, h.prefix); k, v = h.c.Next() {
		rest := k[len(h.prefix):]
		if n, used := binary.Uvarint(rest); used > 0 && n <= uint64(len(rest)-used) {
			h.k, h.v, h.host = k, v, rest[:used+int(n)] //nolint:gosec // it is at most len(rest)
			return
		}
	}
	h.k, h.v, h.host = nil, nil, nil
}

// seek goes to the first key of a host after one; "": of the first.
func (h *hostKeys) seek(after string) {
	if after == "" {
		h.set(h.c.Seek(h.prefix))
		return
	}
	host := append(binary.AppendUvarint(nil, uint64(len(after))), after...)
	h.set(h.c.Seek(append(slices.Concat(h.prefix, host), 0xff)))
	for h.k != nil && bytes.Compare(h.host, host) <= 0 { // what follows the name may begin with that byte, too
		h.set(h.c.Next())
	}
}

// eachKeys calls fn with each host after one and with the keys and values of it: its past, its rows, and what came of it on days, in the order of these. list is
// valid until fn returns.
func eachKeys(tx *bbolt.Tx, after string, days []store.Day, fn func(host []byte, list []store.KV) error) error {
	bkt := tx.Bucket(layout.BucketLedger)
	if bkt == nil {
		return nil
	}
	kinds := []*hostKeys{{c: bkt.Cursor(), prefix: layout.Pasts}, {c: bkt.Cursor(), prefix: layout.Rows}}
	for _, day := range days {
		kinds = append(kinds, &hostKeys{c: bkt.Cursor(), prefix: layout.ReceivedFrom(day)}, &hostKeys{c: bkt.Cursor(), prefix: layout.ClassReceivedFrom(day)})
	}
	for _, h := range kinds {
		h.seek(after)
	}
	var list []store.KV
	for {
		var host []byte
		for _, h := range kinds {
			if h.k != nil && (host == nil || bytes.Compare(h.host, host) < 0) {
				host = h.host
			}
		}
		if host == nil {
			return nil
		}
		list = list[:0]
		for _, h := range kinds {
			for h.k != nil && bytes.Equal(h.host, host) {
				list = append(list, store.KV{Key: h.k, Value: h.v})
				h.set(h.c.Next())
			}
		}
		_, used := binary.Uvarint(host)
		if err := fn(host[used:], list); err != nil {
			return err
		}
	}
}

// known is what a partition knows of a host, but for what is damaged, which is unknown.
type known struct {
	past     ledger.Past
	rows     []*ledger.Row
	received []layout.Received // on the days that were asked for, in their order
}

// eachHost calls fn with each host after one.
func eachHost(tx *bbolt.Tx, after string, days []store.Day, fn func(host string, k *known) error) error {
	return eachKeys(tx, after, days, func(host []byte, list []store.KV) error {
		var k known
		for _, kv := range list {
			if _, length, start, ok := layout.ParseRowKey(kv.Key); ok {
				if row, err := layout.DecodeRow(kv.Key, kv.Value, length, start); err == nil {
					k.rows = append(k.rows, row)
				}
			} else if r, ok := layout.DecodeReceived(kv.Key, kv.Value); ok {
				k.received = append(k.received, r)
			} else if _, ok := layout.PastHost(kv.Key); ok {
				if b, err := layout.CutSum(kv.Key, kv.Value); err == nil {
					k.past, _ = ledger.ParsePast(b)
				}
			}
		}
		return fn(string(host), &k)
	})
}

// daysReceived returns the days on which something came that a partition knows of.
func daysReceived(tx *bbolt.Tx) (days []store.Day) {
	bkt := tx.Bucket(layout.BucketLedger)
	if bkt == nil {
		return nil
	}
	c := bkt.Cursor()
	for _, kind := range []struct {
		all  []byte
		from func(store.Day) []byte
	}{{layout.AllReceived, layout.ReceivedFrom}, {layout.AllOfClasses, layout.ClassReceivedFrom}} {
		last, some := store.Day(0), false
		for k, _ := c.Seek(kind.all); bytes.HasPrefix(k, kind.all); k, _ = c.Seek(kind.from(last + 1)) {
			day, ok := layout.ReceivedDay(k)
			if !ok || some && day <= last { // behind the last day that a key can have comes the first
				break
			}
			last, some = day, true
			days = append(days, day)
		}
	}
	slices.Sort(days)
	return slices.Compact(days)
}
