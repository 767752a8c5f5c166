package clickhouse

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// The list of the collectors that keep events in the cluster lies in the first shard, as the account does.

var _ store.Roster = (*Engine)(nil)

// lostOf begins the names of the rows of meta that say when a collector was said to be gone for good; its store's ID follows.
const lostOf = "lost "

// first returns the servers of the first shard.
func (e *Engine) first(ctx context.Context) ([]*node, error) {
	names, of, err := e.cluster.shards(ctx)
	if err != nil {
		return nil, err
	}
	return of[names[0]], nil
}

// Enter implements store.Roster.
func (e *Engine) Enter(ctx context.Context, m *store.Member) error {
	first, err := e.first(ctx)
	if err != nil {
		return err
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	err = e.cluster.insert(ctx, first, "INSERT INTO "+e.cluster.address.Database+".collectors (store, at, data)", []any{[]string{e.opts.Store}, []uint64{uint64(m.At)}, []string{string(b)}})
	if err != nil {
		return fmt.Errorf("write that this collector lives: %w", err)
	}
	return nil
}

// EnterHosts implements store.Roster.
func (e *Engine) EnterHosts(ctx context.Context, hosts []store.MemberHost) error {
	n := len(hosts)
	first, err := e.first(ctx)
	if err != nil || n == 0 {
		return err
	}
	names, at, batches := make([]string, n), make([]uint64, n), make([]uint64, n)
	received, stored, age, data := make([]uint64, n), make([]uint64, n), make([]uint64, n), make([]string, n)
	for i, h := range hosts {
		names[i], at[i], batches[i], received[i], stored[i], age[i], data[i] = h.Host, uint64(h.At), h.Batch, h.Received, h.Stored, uint64(h.Age), string(h.Data)
	}
	err = e.cluster.insert(ctx, first, "INSERT INTO "+e.cluster.address.Database+".hosts (store, host, at, batch, received, stored, age, data)",
		[]any{same(e.opts.Store, n), names, at, batches, received, stored, age, data})
	if err != nil {
		return fmt.Errorf("write what this collector has of hosts: %w", err)
	}
	return nil
}

// Members implements store.Roster.
func (e *Engine) Members(ctx context.Context) (list []store.Member, err error) {
	first, err := e.first(ctx)
	if err != nil {
		return nil, err
	}
	err = e.cluster.ask(ctx, first, "SELECT store, max(at), argMax(taken, at), argMax(data, at) FROM "+e.cluster.address.Database+".collectors GROUP BY store ORDER BY store", func() { list = nil },
		func(scan func(...any) error) error {
			var id, data string
			var at, taken uint64
			err := scan(&id, &at, &taken, &data)
			m := memberOf(id, int64(at), data)
			m.Taken = int64(taken)
			list = append(list, m)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("read which collectors there are: %w", err)
	}
	lost, err := e.cluster.said(ctx, first, lostOf)
	if err != nil {
		return nil, fmt.Errorf("read which collectors are gone: %w", err)
	}
	for i := range list {
		at, _ := strconv.ParseInt(lost[list[i].Store], 10, 64) // 0 of what is none
		if at > list[i].At {
			list[i].Lost = at
		}
	}
	return list, nil
}

// memberOf reads what a collector wrote of itself. One row that cannot be read must not keep the others from answering.
func memberOf(id string, at int64, data string) store.Member {
	m := store.Member{}
	if err := json.Unmarshal([]byte(data), &m); err != nil {
		m = store.Member{Bad: fmt.Errorf("%w: what the collector of the store %s says of itself: %w", store.ErrDamaged, id, err)}
	}
	m.Store, m.At = id, at
	return m
}

// MemberHosts implements store.Roster.
func (e *Engine) MemberHosts(ctx context.Context, member string) (list []store.MemberHost, err error) {
	first, err := e.first(ctx)
	if err != nil {
		return nil, err
	}
	of := ""
	if member != "" {
		of = " WHERE store = " + quote(member)
	}
	sql := "SELECT store, host, max(at), argMax(taken, at), argMax(batch, at), argMax(received, at), argMax(stored, at), argMax(age, at), argMax(data, at) FROM " + e.cluster.address.Database + ".hosts" + of + " GROUP BY store, host ORDER BY store, host"
	err = e.cluster.ask(ctx, first, sql, func() { list = nil }, func(scan func(...any) error) error {
		var h store.MemberHost
		var at, taken, age uint64
		var data string
		err := scan(&h.Store, &h.Host, &at, &taken, &h.Batch, &h.Received, &h.Stored, &age, &data)
		h.At, h.Taken, h.Age, h.Data = int64(at), int64(taken), int64(age), []byte(data)
		list = append(list, h)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what collectors have of hosts: %w", err)
	}
	return list, nil
}

// EnterAccounts implements store.Roster.
func (e *Engine) EnterAccounts(ctx context.Context, list []store.MemberHost) error {
	first, err := e.first(ctx)
	if err != nil || len(list) == 0 {
		return err
	}
	names, at, data := make([]string, len(list)), make([]uint64, len(list)), make([]string, len(list))
	for i, h := range list {
		names[i], at[i], data[i] = h.Host, uint64(h.At), string(h.Data)
	}
	err = e.cluster.insert(ctx, first, "INSERT INTO "+e.cluster.address.Database+".accounts (store, host, at, data)", []any{same(e.opts.Store, len(list)), names, at, data})
	if err != nil {
		return fmt.Errorf("write what this collector's account says of hosts: %w", err)
	}
	return nil
}

// MemberAccounts implements store.Roster.
func (e *Engine) MemberAccounts(ctx context.Context, member string, hosts []string) (list []store.MemberHost, err error) {
	first, err := e.first(ctx)
	if err != nil {
		return nil, err
	}
	of := ""
	if len(hosts) > 0 && len(hosts) <= maxList {
		of = " AND host IN (" + quoteAll(hosts) + ")"
	}
	sql := "SELECT host, max(at), argMax(taken, at), argMax(data, at) FROM " + e.cluster.address.Database + ".accounts WHERE store = " + quote(member) + of + " GROUP BY host ORDER BY host"
	err = e.cluster.ask(ctx, first, sql, func() { list = nil }, func(scan func(...any) error) error {
		h := store.MemberHost{Store: member}
		var at, taken uint64
		var data string
		err := scan(&h.Host, &at, &taken, &data)
		h.At, h.Taken, h.Data = int64(at), int64(taken), []byte(data)
		list = append(list, h)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what the account of the collector %s says: %w", member, err)
	}
	return list, nil
}

// sendersDays is for how many days what is remembered of a sender is kept from which nothing comes, by the servers' clock.
const sendersDays = 14

// EnterSenders implements store.Roster. It deletes the days that are too old: what was forgotten in them lies there as well.
func (e *Engine) EnterSenders(ctx context.Context, atMs int64, changed []store.KV) error {
	n := len(changed)
	first, err := e.first(ctx)
	if err != nil || n == 0 {
		return err
	}
	keys, values := make([]string, n), make([]string, n)
	for i, kv := range changed {
		keys[i], values[i] = string(kv.Key), string(kv.Value)
	}
	db := e.cluster.address.Database
	err = e.cluster.insert(ctx, first, "INSERT INTO "+db+".senders (key, store, at, value)", []any{keys, same(e.opts.Store, n), same(uint64(atMs), n), values})
	if err != nil {
		return fmt.Errorf("write what this collector remembers of senders: %w", err)
	}
	if today := atMs / (24 * time.Hour).Milliseconds(); e.cleaned.Swap(today) == today {
		return nil // our clock says how often it is looked, and nothing else
	}
	var old []uint64
	sql := fmt.Sprintf("SELECT DISTINCT intDiv(taken, 86400000) AS day FROM %s.senders WHERE day + %d < intDiv(toUInt64(now()), 86400)", db, sendersDays)
	err = e.cluster.ask(ctx, first, sql, func() { old = nil }, func(scan func(...any) error) error {
		var day uint64
		err := scan(&day)
		old = append(old, day)
		return err
	})
	for _, day := range old {
		if err == nil {
			err = e.cluster.dropPartition(ctx, first, "senders", fmt.Sprint(day))
		}
	}
	if err != nil {
		return fmt.Errorf("delete what collectors remembered of senders long ago: %w", err)
	}
	return nil
}

// MemberSenders implements store.Roster.
func (e *Engine) MemberSenders(ctx context.Context, sinceMs int64) (all map[string][]store.KV, upTo int64, err error) {
	first, err := e.first(ctx)
	if err != nil {
		return nil, 0, err
	}
	sql := fmt.Sprintf("SELECT store, key, argMax(value, at) AS v, max(taken) FROM %s.senders WHERE store != %s AND taken >= %d GROUP BY store, key ORDER BY store, key", e.cluster.address.Database, quote(e.opts.Store), max(0, sinceMs))
	err = e.cluster.ask(ctx, first, sql, func() { all, upTo = map[string][]store.KV{}, sinceMs }, func(scan func(...any) error) error {
		var id, key, value string
		var taken uint64
		err := scan(&id, &key, &value, &taken)
		upTo = max(upTo, int64(taken))
		if value != "" { // else it was forgotten
			all[id] = append(all[id], store.KV{Key: []byte(key), Value: []byte(value)})
		}
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read what collectors remember of senders: %w", err)
	}
	return all, upTo, nil
}

// Behind implements store.Roster.
func (e *Engine) Behind(ctx context.Context, member string, batch uint64) (map[string]uint64, error) {
	a, err := e.known(ctx, 0)
	if err != nil {
		return nil, err
	}
	names, of, err := e.cluster.shards(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]uint64{}
	for _, name := range names {
		some := map[string]uint64{}
		sql := fmt.Sprintf("SELECT DISTINCT host, node, ts_ms, serial, batch, seq, counted, text FROM %s.events WHERE store = %s AND batch > %d AND batch <= %d", e.cluster.address.Database, quote(member), batch, a.last[member].batch)
		err := e.cluster.ask(ctx, of[name], sql, func() { clear(some) }, func(scan func(...any) error) error {
			var host, node, text string
			var ms int64
			var serial, in uint64
			var seq uint32
			var counted uint8
			if err := scan(&host, &node, &ms, &serial, &in, &seq, &counted, &text); err != nil {
				return err
			}
			some[host] += uint64(len(store.ParseText([]byte(text), counted != 0, []byte(node), store.Origin{}).Records))
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read what was stored of the collector %s: %w", member, err)
		}
		for host, n := range some {
			all[host] += n
		}
	}
	return all, nil
}

// Seen implements store.Roster.
func (e *Engine) Seen(ctx context.Context, notBefore time.Time) (map[string]uint64, error) {
	a, err := e.known(ctx, max(0, min(fresh, time.Since(notBefore))))
	if err != nil {
		return nil, err
	}
	out := map[string]uint64{}
	for id, r := range a.last {
		if id != e.opts.Store {
			out[id] = r.batch
		}
	}
	return out, nil
}

// Lose implements store.Roster.
func (e *Engine) Lose(ctx context.Context, member string, atMs int64) error {
	first, err := e.first(ctx)
	if err != nil {
		return err
	}
	err = e.cluster.say(ctx, first, []string{lostOf + member}, []string{fmt.Sprintf("%020d", atMs)})
	if err == nil {
		err = e.shareHolds(ctx, first, member, "") // it says them again if it comes back
	}
	if err != nil {
		return fmt.Errorf("write that the collector %s is gone: %w", member, err)
	}
	return nil
}
