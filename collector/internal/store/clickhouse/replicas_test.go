package clickhouse

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Of three replicas any may be killed and wait: each batch is there once, and an answer is whole, or an error.
func TestReplicas(t *testing.T) {
	c := cluster.Start(t, cluster.Shape{Replicas: 3})
	e, ref := engineOf(t, address(t, c), "x"), storetest.NewMemory()
	g, id := storetest.NewGenerator(5, storetest.Templates(t), 4, storetest.Start), uint64(0)
	add := func() {
		t.Helper()
		id++
		tab := store.NewTable()
		storetest.Fill(tab, g, 200)
		must(t, ref.Append(t.Context(), sealed(id, tab)))
		until := time.Now().Add(3 * time.Minute)
		for {
			err := e.Append(t.Context(), sealed(id, tab))
			if err == nil {
				return
			}
			if !errors.Is(err, ErrCluster) || !passes(err) || time.Now().After(until) {
				t.Fatal(err)
			}
		}
	}
	find := func(when string, whole bool) {
		t.Helper()
		want, until := texts(t, ref, &query.Query{}), time.Now().Add(3*time.Minute)
		for {
			var got []string
			err := store.Scan(t.Context(), e, &query.Query{}, func(ev *event.Event) error {
				got = append(got, storetest.Text(ev))
				return nil
			})
			switch {
			case err == nil && !slices.Equal(want, got):
				t.Fatalf("%s: %d events, want %d", when, len(got), len(want))
			case err == nil:
				return
			case !errors.Is(err, ErrCluster), whole && time.Now().After(until):
				t.Fatalf("%s: %v", when, err)
			case !whole:
				return
			}
		}
	}
	add()
	find("all are there", true)
	few := *e.opts.Address
	few.Nodes = few.Nodes[:1]
	if _, err := engineOf(t, &few, "y").Stats(t.Context()); !errors.Is(err, ErrCluster) || !strings.Contains(err.Error(), "3 replicas") {
		t.Errorf("one server of three is named: %v", err)
	}
	for _, n := range c.Nodes {
		n.Kill()
		find(n.Name+" was killed just now", false)
		add()
		add()
		find(n.Name+" is away", true)
		must(t, n.Start())
		find(n.Name+" begins", false)
		add()
		find(n.Name+" is back", true)
	}
	for _, n := range c.Nodes[1:] {
		n.Kill()
	}
	if err := e.Append(t.Context(), sealed(id+1, table(1))); !errors.Is(err, ErrCluster) {
		t.Errorf("a batch without a quorum: %v", err)
	}
	for _, n := range c.Nodes[1:] {
		must(t, n.Start())
	}
	must(t, ref.Append(t.Context(), sealed(id+1, table(1))))
	id++
	until := time.Now().Add(3 * time.Minute)
	for err := e.Append(t.Context(), sealed(id, table(1))); err != nil; err = e.Append(t.Context(), sealed(id, table(1))) {
		if time.Now().After(until) {
			t.Fatal(err)
		}
	}
	find("all are back", true)
}
