package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// A host may move from one collector to another, and sends again there what it was not acknowledged: both may have that, and the one that died
// with it stores it when it runs again. What tells a record from all others is then its host, time and serial, who sent it (the name that was proved, else
// the address), and its bytes: rows of one key that several collectors have are put together by these (store.JoinedBySender). A line without
// time and serial has nothing that tells it from others that are the same, so each is given.

// mostSame is how many rows of one key are held to be compared.
const mostSame = 4096

// moving gives rows on, those of one key that several collectors have as one.
type moving struct {
	reverse bool
	give    func(*store.Found) error
	rows    []found // of one key
}

// add takes the next row of the answer.
func (m *moving) add(f *found) error {
	if len(m.rows) > 0 && m.rows[0].Key != f.Key || len(m.rows) == mostSame {
		if err := m.flush(); err != nil {
			return err
		}
	}
	m.rows = append(m.rows, *f)
	return nil
}

// flush gives the rows that there are.
func (m *moving) flush() error {
	rows := m.rows
	m.rows = m.rows[:0]
	one := func(f found) bool { return f.store != rows[0].store }
	if len(rows) == 0 {
		return nil
	}
	if k := rows[0].Key; !slices.ContainsFunc(rows, one) || k.Ms == 0 && k.Serial == 0 {
		for i := range rows {
			if err := m.give(&rows[i].Found); err != nil {
				return err
			}
		}
		return nil
	}
	for _, f := range m.joined(rows) {
		if err := m.give(&f); err != nil {
			return err
		}
	}
	return nil
}

// joined makes one of what collectors have of the same events.
func (m *moving) joined(rows []found) []store.Found {
	if m.reverse {
		slices.Reverse(rows)
	}
	var ids []string
	lists := map[string][]store.Found{}
	for _, f := range rows {
		if lists[f.store] == nil {
			ids = append(ids, f.store)
		}
		lists[f.store] = append(lists[f.store], f.Found)
	}
	all := make([][]store.Found, len(ids))
	for i, id := range ids {
		all[i] = lists[id]
	}
	out := store.JoinedBySender(all)
	if m.reverse {
		slices.Reverse(out)
	}
	return out
}

// moved returns what rows meet that may be one event together, of several collectors: the minutes of which several have events of one host, with the host, or without where these
// are too many. "" says that there are none; ok is false where they are too many all the same.
func (x *question) moved(ctx context.Context, q *query.Query) (condition string, ok bool, err error) {
	if !x.account.several || q.Own {
		return "", true, nil
	}
	var hosts []string
	err = x.shards[0].ask(ctx, "SELECT host FROM "+x.db+".hosts GROUP BY host HAVING uniqExact(store) > 1", func() { hosts = nil }, func(scan func(...any) error) error {
		var host string
		err := scan(&host)
		hosts = append(hosts, host)
		return err
	})
	if err != nil {
		return "", false, fmt.Errorf("read which hosts have moved: %w", err)
	}
	if len(hosts) == 0 {
		return "", true, nil
	}
	all := []string{"ts_ms > 0", fmt.Sprintf("ts_ms >= %d", q.StartMs)}
	if q.EndMs != 0 {
		all = append(all, fmt.Sprintf("ts_ms <= %d", q.EndMs))
	}
	if len(hosts) <= maxList {
		all = append(all, "host IN ("+quoteAll(hosts)+")")
	}
	if sql := nodes(q.Nodes); sql != "" {
		all = append(all, sql)
	}
	if days := x.account.days(q); days != "" {
		all = append(all, days)
	}
	minutes := fmt.Sprintf(" FROM (SELECT node, intDiv(ts_ms, %d) AS m%s GROUP BY node, m HAVING min(store) != max(store))", minute, rowsOf(x.table(), all, x.seen))
	list, err := x.list(ctx, "SELECT DISTINCT node, m"+minutes, func(scan func(...any) error) (string, error) {
		var node string
		var m int64
		err := scan(&node, &m)
		return fmt.Sprintf("(%s, %d)", quote(node), m), err
	})
	if len(list) == 0 || err != nil || len(list) <= maxList {
		return in(fmt.Sprintf("(node, intDiv(ts_ms, %d))", minute), list), true, err
	}
	// Many hosts move in the same minutes, when a collector ends.
	list, err = x.list(ctx, "SELECT DISTINCT m"+minutes, func(scan func(...any) error) (string, error) {
		var m int64
		err := scan(&m)
		return strconv.FormatInt(m, 10), err
	})
	return in(fmt.Sprintf("intDiv(ts_ms, %d)", minute), list), len(list) <= maxList, err
}

// list returns what all shards answer, each once, and no more than one too many.
func (x *question) list(ctx context.Context, sql string, row func(scan func(...any) error) (string, error)) (all []string, err error) {
	for _, shard := range x.shards {
		var some []string
		err := shard.ask(ctx, sql+fmt.Sprintf(" LIMIT %d", maxList+1), func() { some = nil }, func(scan func(...any) error) error {
			s, err := row(scan)
			some = append(some, s)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("find what several collectors have of hosts that moved: %w", err)
		}
		all = append(all, some...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// in is the condition that something is in a list; "" where that is empty.
func in(what string, list []string) string {
	if len(list) == 0 {
		return ""
	}
	return what + " IN (" + strings.Join(list, ", ") + ")"
}

// minute is in ms.
const minute = 60_000
