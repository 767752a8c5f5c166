package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

const (
	readHosts  = 20
	readEvents = 5000 // of a host, one a second
)

// TestReads shows what a server reads for a question, and that it reads for nobody who is gone.
func TestReads(t *testing.T) {
	c := cluster.Start(t, cluster.Shape{Settings: map[string]string{"log_queries": "1"}})
	a := address(t, c)
	e := engineOf(t, a, "x")
	for day := range 3 {
		tab := store.NewTable()
		for h := range readHosts {
			host := fmt.Sprintf("host%02d", h)
			for i := range readEvents {
				at := storetest.Start.Add(time.Duration(day)*24*time.Hour + time.Duration(i)*time.Second)
				tab.Add(host, storetest.Parse(host, fmt.Sprintf("node=%s type=SYSCALL msg=audit(%d.000:%d): arch=c000003e syscall=59 success=yes exit=0 ppid=1 pid=%d auid=1000 uid=0 gid=0 euid=0 ses=3 comm=\"tar\" exe=\"/usr/bin/tar\" key=\"k%d\"", host, at.Unix(), i, i, i%7)))
			}
		}
		b := sealed(uint64(day+1), tab)
		b.Day += store.Day(day)
		must(t, e.Append(t.Context(), b))
	}
	_, err := c.Nodes[0].Query("OPTIMIZE TABLE " + a.Database + ".events FINAL")
	must(t, err)
	// read is how many rows of events and bytes all statements of a question read.
	read := func(ask func()) (rows, size float64) {
		t.Helper()
		for _, sql := range []string{"SYSTEM FLUSH LOGS", "TRUNCATE TABLE system.query_log"} {
			_, err := c.Nodes[0].Query(sql)
			must(t, err)
		}
		ask()
		_, err := c.Nodes[0].Query("SYSTEM FLUSH LOGS")
		must(t, err)
		text, err := c.Nodes[0].Query("SELECT sum(read_rows), sum(read_bytes) FROM system.query_log WHERE type = 2 AND position(query, '" + a.Database + ".events') > 0 AND position(query, 'query_log') = 0")
		must(t, err)
		_, err = fmt.Sscan(text, &rows, &size)
		must(t, err)
		return rows, size
	}
	const granule = 2048
	const perDay, all = readHosts * readEvents, 3 * readHosts * readEvents
	second := storetest.Start.Add(24*time.Hour + 1000*time.Second).UnixMilli()
	key := func(v string) query.Query {
		return query.Query{Terms: []query.Term{{Fields: []query.Field{query.FieldKey}, Text: v}}}
	}
	for _, c := range []struct {
		what string
		q    query.Query
		want int
		rows float64 // at most, of a count by minutes and a window each
		size float64 // bytes a row at most; texts have 200
	}{
		{"one host, one second", query.Query{Nodes: []string{"host07"}, StartMs: second, EndMs: second + 999}, 1, 2 * 2 * granule, 400},
		{"one host, a day", query.Query{Nodes: []string{"host07"}, StartMs: second - 1000_000, EndMs: second + 10_000_000}, readEvents, 3 * (readEvents + 2*granule), 400},
		{"one second", query.Query{StartMs: second, EndMs: second + 999}, readHosts, 2 * perDay, 60},
		{"a key that none has", key("hay"), 0, all, 80},
		{"a key, one second", func() query.Query { q := key("k3"); q.StartMs, q.EndMs = second, second+999; return q }(), 0, 2 * perDay, 80},
	} {
		n := 0
		rows, size := read(func() { n = len(texts(t, e, &c.q)) })
		t.Logf("%s: %d events of %.0f rows and %.0f bytes read", c.what, n, rows, size)
		if c.what != "a key, one second" && n != c.want {
			t.Errorf("%s: %d events, want %d", c.what, n, c.want)
		}
		if rows > c.rows || size > c.size*max(rows, granule) {
			t.Errorf("%s: %.0f rows and %.0f bytes were read, want at most %.0f rows of %.0f bytes", c.what, rows, size, c.rows, c.size)
		}
	}
	rows, size := read(func() {
		sum := tally(t, e, &query.Query{}, []query.Field{query.FieldExe}, func(*event.Event) error { return nil })
		if n := sum.Of(query.FieldExe); sum.Events != all {
			t.Errorf("%d events were counted by %+v, want %d", sum.Events, n, all)
		}
	})
	if t.Logf("counted by program: %.0f rows and %.0f bytes", rows, size); size > 150*all {
		t.Errorf("a count has read %.0f bytes of %d events", size, all)
	}
	// Whoever goes away ends what is read for him, and whoever is slow holds no server.
	ctx, cancel := context.WithCancel(t.Context())
	slow, begun := make(chan error, 1), make(chan bool)
	go func() {
		once := sync.OnceFunc(func() { close(begun) })
		slow <- store.Scan(ctx, e, &query.Query{}, func(*event.Event) error {
			once()
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	<-begun
	must(t, c.Nodes[0].WaitFor("SELECT count() FROM system.processes WHERE position(query, 'processes') = 0", "0"))
	cancel()
	if err := <-slow; !errors.Is(err, context.Canceled) {
		t.Errorf("a scan whose reader is gone: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		s := e.cluster.shard(e.cluster.nodes)
		ended <- s.ask(gone, "SELECT count() FROM numbers(1000000000000)", func() {}, func(scan func(...any) error) error { return scan(new(uint64)) })
	}()
	must(t, c.Nodes[0].WaitFor("SELECT count() FROM system.processes WHERE position(query, 'numbers(') > 0 AND position(query, 'processes') = 0", "1"))
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a statement that nobody waits for: %v", err)
	}
	must(t, c.Nodes[0].WaitFor("SELECT count() FROM system.processes WHERE position(query, 'numbers(') > 0 AND position(query, 'processes') = 0", "0"))
}
