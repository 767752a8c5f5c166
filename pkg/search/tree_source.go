package search

import (
	"context"
	"fmt"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// procs returns what is known about processes, for building trees. Both kinds return the
// same.
type procs interface {
	// of are the sightings of a pid that know its parent, by time.
	of(ctx context.Context, k pidOf, w window) ([]sighting, error)
	// children are the sightings of processes with that parent, by time.
	children(ctx context.Context, parent pidOf, w window) ([]sighting, error)
	// boots are the records that a host was started, by time.
	boots(ctx context.Context, node string) ([]stamp, error)
}

// bootTypes are the records that say so: the kernel's own, and that of the program that
// notes it.
var bootTypes = []uint32{uint32(tables.Kernel), uint32(tables.SystemBoot)}

func startsHost(ev *event.Event) bool {
	for i := range ev.Records {
		if slices.Contains(bootTypes, uint32(ev.Records[i].Type)) {
			return true
		}
	}
	return false
}

// indexedProcs queries the source for each process.
type indexedProcs struct {
	src    query.Source
	x      query.Extractor
	all    window
	booted map[string][]stamp
}

func (p *indexedProcs) of(ctx context.Context, k pidOf, w window) ([]sighting, error) {
	return p.scan(ctx, k, query.FieldPID, w)
}

func (p *indexedProcs) children(ctx context.Context, parent pidOf, w window) ([]sighting, error) {
	return p.scan(ctx, parent, query.FieldPPID, w)
}

func within(node string, w window) *query.Query {
	q := &query.Query{StartMs: max(w.from, 1), EndMs: max(w.to, 1)}
	if node != "" {
		q.Nodes = []string{node}
	}
	return q
}

func (p *indexedProcs) scan(ctx context.Context, k pidOf, f query.Field, w window) (out []sighting, err error) {
	q := within(k.node, w)
	q.Terms = []query.Term{{Fields: []query.Field{f}, Text: fmt.Sprint(k.pid)}}
	err = p.src.Scan(ctx, q, func(ev *event.Event) error {
		s, ok := see(&p.x, ev)
		if !ok || s.PPID < 0 || string(ev.Node) != k.node || f == query.FieldPID && s.PID != k.pid || f == query.FieldPPID && s.PPID != k.pid {
			return nil
		}
		if out = append(out, s); len(out) == treeEvents {
			return query.ErrStop
		}
		return nil
	})
	sortSightings(out)
	return out, err
}

func (p *indexedProcs) boots(ctx context.Context, node string) ([]stamp, error) {
	if list, ok := p.booted[node]; ok {
		return list, nil
	}
	q := within(node, p.all)
	q.Types = bootTypes
	var list []stamp
	err := p.src.Scan(ctx, q, func(ev *event.Event) error {
		if string(ev.Node) == node {
			list = append(list, stamp{ev.Ms, ev.Serial})
		}
		return nil
	})
	sortStamps(list)
	if p.booted == nil {
		p.booted = map[string][]stamp{}
	}
	p.booted[node] = list
	return list, err
}

// procTable holds the processes of a log, read in one scan. It needs some 40 bytes for
// each event, and a few words for each change of a process's name.
type procTable struct {
	seen          []tableEntry
	byPID, byPPID map[pidOf][]uint32 // of seen
	tasks         map[query.Task]*query.Task
	booted        map[string][]stamp
}

type tableEntry struct {
	task *query.Task
	stamp
	exits bool
}

func (t *procTable) load(ctx context.Context, src query.Source, w window) error {
	t.byPID, t.byPPID, t.booted = map[pidOf][]uint32{}, map[pidOf][]uint32{}, map[string][]stamp{}
	t.tasks = map[query.Task]*query.Task{}
	var x query.Extractor
	nodes := map[string]string{}
	err := src.Scan(ctx, within("", w), func(ev *event.Event) error {
		node, ok := nodes[string(ev.Node)]
		if !ok {
			node = string(ev.Node)
			nodes[node] = node
		}
		if startsHost(ev) {
			t.booted[node] = append(t.booted[node], stamp{ev.Ms, ev.Serial})
		}
		s, ok := see(&x, ev)
		if !ok || s.PPID < 0 {
			return nil
		}
		i := uint32(len(t.seen))
		t.seen = append(t.seen, tableEntry{t.task(&s.Task), s.stamp, s.exits})
		own, parent := pidOf{node, s.PID}, pidOf{node, s.PPID}
		t.byPID[own] = append(t.byPID[own], i)
		t.byPPID[parent] = append(t.byPPID[parent], i)
		return nil
	})
	if err != nil {
		return err
	}
	byTime := func(a, b uint32) int { return t.seen[a].compare(t.seen[b].stamp) }
	for _, m := range []map[pidOf][]uint32{t.byPID, t.byPPID} {
		for _, list := range m {
			slices.SortStableFunc(list, byTime)
		}
	}
	for _, list := range t.booted {
		sortStamps(list)
	}
	return nil
}

// task is the one copy of a task.
func (t *procTable) task(task *query.Task) *query.Task {
	if have := t.tasks[*task]; have != nil {
		return have
	}
	own := *task
	t.tasks[own] = &own
	return &own
}

func (t *procTable) of(_ context.Context, k pidOf, w window) ([]sighting, error) {
	return t.within(t.byPID[k], w), nil
}

func (t *procTable) children(_ context.Context, parent pidOf, w window) ([]sighting, error) {
	return t.within(t.byPPID[parent], w), nil
}

func (t *procTable) boots(_ context.Context, node string) ([]stamp, error) {
	return t.booted[node], nil
}

func (t *procTable) within(list []uint32, w window) (out []sighting) {
	for _, i := range list {
		e := &t.seen[i]
		if e.ms < max(w.from, 1) || e.ms > max(w.to, 1) {
			continue
		}
		if out = append(out, sighting{*e.task, e.stamp, e.exits}); len(out) == treeEvents {
			break
		}
	}
	return out
}

func sortStamps(list []stamp) { slices.SortFunc(list, stamp.compare) }
