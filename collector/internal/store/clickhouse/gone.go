package clickhouse

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Before a part is deleted, what it has of each host is written beside what collectors are told of it: from when to when its events are. By that whoever answers for a collector
// that is away says what of a host is not there any more. A class's name does not tell it: an event is of the first class that it meets, by rules of then.

// goneKey is events of a host, of one day in which they happened.
type goneKey struct {
	store, host string
	happened    int32 // days since 1970
}

type goneSpan struct{ from, to int64 }

// hostsOf returns what a part has of the collectors to which it is told. Events of mixed nodes, and of times that cannot be, are in no account.
func (e *Engine) hostsOf(ctx context.Context, names []string, of map[string][]*node, d *drop, told map[string]*telling) (all map[goneKey]goneSpan, err error) {
	stores := slices.Sorted(maps.Keys(told))
	begin := d.part.Day.Time().UnixMilli()
	sql := fmt.Sprintf("SELECT store, host, toInt32(intDiv(ts_ms, %d)) AS happened, min(ts_ms), max(ts_ms) FROM %s.events WHERE day = %d AND part = %d AND host != '' AND ts_ms > %d AND ts_ms <= %d AND store IN (%s) GROUP BY store, host, happened",
		ledger.Day, e.cluster.address.Database, dayNumber(d.part.Day), d.part.N, max(0, begin-ledger.Oldest), begin+ledger.Day+ledger.Newest, quoteAll(stores))
	all = map[goneKey]goneSpan{}
	for _, name := range names {
		some := map[goneKey]goneSpan{}
		err := e.cluster.ask(ctx, of[name], sql, func() { clear(some) }, func(scan func(...any) error) error {
			var k goneKey
			var s goneSpan
			err := scan(&k.store, &k.host, &k.happened, &s.from, &s.to)
			some[k] = s
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read the hosts of %s: %w", d.part, err)
		}
		for k, s := range some {
			if was, is := all[k]; is {
				s = goneSpan{min(s.from, was.from), max(s.to, was.to)}
			}
			all[k] = s
		}
	}
	return all, nil
}

// keepHosts writes what a part has of each host. Where that cannot be read, for a server or what it has is damaged, days go all the same: it is said that it may be any host.
func (e *Engine) keepHosts(ctx context.Context, names []string, of map[string][]*node, d *drop, told map[string]*telling, now time.Time) error {
	if len(told) == 0 {
		return nil
	}
	all, err := e.hostsOf(ctx, names, of, d, told)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		e.opts.Log.Warn("of which hosts a part is that is dropped is not known: coverage of a collector that is away takes it for any", "part", d.part.String(), "error", err)
		all = map[goneKey]goneSpan{}
		for id, t := range told {
			all[goneKey{store: id, happened: int32(d.part.Day)}] = goneSpan{t.MinMs, t.MaxMs}
		}
	}
	var ids, hosts []string
	var ofDay []int32
	var mins, maxs []int64
	for k, s := range all {
		ids, hosts, ofDay, mins, maxs = append(ids, k.store), append(hosts, k.host), append(ofDay, k.happened), append(mins, s.from), append(maxs, s.to)
	}
	n := len(ids)
	if n == 0 {
		return nil
	}
	err = e.cluster.insert(ctx, of[names[0]], "INSERT INTO "+e.cluster.address.Database+".gone (store, host, day, part, happened, at, class, min_ms, max_ms)",
		[]any{ids, hosts, same(dayNumber(d.part.Day), n), same(uint32(d.part.N), n), ofDay, same(uint64(now.UnixMilli()), n), same(d.class, n), mins, maxs})
	if err != nil {
		return fmt.Errorf("write the hosts of %s: %w", d.part, err)
	}
	return nil
}

// MemberGone implements store.Roster.
func (e *Engine) MemberGone(ctx context.Context, member string, hosts []string, sinceMs int64) ([]store.HostGone, error) {
	return e.gone(ctx, member, hosts, fmt.Sprintf("taken > %d", max(0, sinceMs)))
}

// OwnGone implements store.Roster.
func (e *Engine) OwnGone(ctx context.Context, hosts []string, parts []store.Part) ([]store.HostGone, error) {
	if len(parts) == 0 {
		return nil, nil
	}
	list := make([]string, len(parts))
	for i, p := range parts {
		list[i] = partition(p)
	}
	return e.gone(ctx, e.opts.Store, hosts, "(day, part) IN ("+strings.Join(list, ", ")+")")
}

// gone returns what parts that meet a condition had of some hosts of a collector, or of all where there are none.
func (e *Engine) gone(ctx context.Context, member string, hosts []string, where string) (list []store.HostGone, err error) {
	first, err := e.first(ctx)
	if err != nil {
		return nil, err
	}
	sql := "SELECT host, day, part, max(class), toInt64(min(at)), toInt64(max(taken)), min(min_ms), max(max_ms) FROM " + e.cluster.address.Database + ".gone WHERE store = " + quote(member) + " AND " + where
	if len(hosts) > 0 && len(hosts) <= maxList {
		sql += " AND host IN ('', " + quoteAll(hosts) + ")"
	}
	err = e.cluster.ask(ctx, first, sql+" GROUP BY host, day, part, happened ORDER BY host, day, part, happened", func() { list = nil }, func(scan func(...any) error) error {
		var h store.HostGone
		var day int32
		var n uint32
		err := scan(&h.Host, &day, &n, &h.Class, &h.At, &h.Taken, &h.FromMs, &h.ToMs)
		h.Part = store.Part{Day: dayOf(day), N: int(n)}
		list = append(list, h)
		return err
	})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	// What was written of a part that was not dropped after all says nothing.
	w, err := e.cluster.word(ctx, first)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(h store.HostGone) bool { _, is := w.dropped[h.Part]; return !is }), nil
}
