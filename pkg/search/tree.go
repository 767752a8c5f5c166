package search

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// The process tree of a hit: who started it, and what it started, as far as
// events say. A process is a pid of a host for as long as its parent stays the
// same, or becomes the one that takes orphans; its name is that of its latest
// event.

// Bounds of a tree. What lies beyond is left out, and the tree says so.
const (
	treeSpan   = 24 * time.Hour // how far before and after the hit
	treeDepth  = 64             // parents, and generations of children
	treeNodes  = 2000
	treeEvents = 20000 // looked at of one process
)

// sighting is what one event says about a process. Later events that say the same are not
// stored.
type sighting struct {
	query.Task
	ms     int64
	serial uint64
}

func (s *sighting) same(o *sighting) bool {
	return s.PPID == o.PPID && s.UID == o.UID && s.AUID == o.AUID && s.Comm == o.Comm && s.Exe == o.Exe
}

// see reads an event; false when it does not say which process it is of.
func see(x *query.Extractor, ev *event.Event) (sighting, bool) {
	task, ok := x.Task(ev)
	return sighting{task, ev.Ms, ev.Serial}, ok
}

// procs returns what is known about processes, for building a tree.
type procs interface {
	// of are the sightings of a process id that know its parent, by time.
	of(ctx context.Context, node string, pid int64, w window) ([]sighting, error)
	// children are the sightings of processes with that parent, by time.
	children(ctx context.Context, node string, ppid int64, w window) ([]sighting, error)
}

// process is a node of a tree.
type process struct {
	sighting
	node     string
	hits     []sighting // the events found that are its own
	children []*process
	cut      bool // there are more children
}

// trees writes the tree of each process that has a hit, in the order of the first
// of them.
func trees(ctx context.Context, o *Options, src query.Source, out io.Writer) (hits uint64, err error) {
	type id struct {
		node string
		pid  int64
	}
	var x query.Extractor
	roots := map[id][]*process{}
	var order []*process
	var none uint64
	span := window{}
	err = src.Scan(ctx, &o.Query, func(ev *event.Event) error {
		hits++
		s, ok := see(&x, ev)
		if !ok {
			none++
			return nil
		}
		if span.from == 0 || ev.Ms < span.from {
			span.from = ev.Ms
		}
		span.to = max(span.to, ev.Ms)
		k := id{string(ev.Node), s.PID}
		for _, p := range roots[k] {
			if p.PPID == s.PPID || p.PPID < 0 || s.PPID < 0 || s.PPID == 1 {
				p.hits = append(p.hits, s)
				if p.PPID < 0 {
					p.PPID = s.PPID
				}
				return nil
			}
		}
		p := &process{sighting: s, node: k.node, hits: []sighting{s}}
		roots[k] = append(roots[k], p)
		order = append(order, p)
		return nil
	})
	if err != nil || len(order) == 0 {
		return hits, err
	}
	about, err := src.About(ctx)
	if err != nil {
		return hits, err
	}
	var from procs = &indexedProcs{src: src}
	if !about.Indexed {
		t := &procTable{}
		pad := treeSpan.Milliseconds()
		if err := t.load(ctx, src, window{span.from - pad, span.to + pad}); err != nil {
			return hits, err
		}
		from = t
	}
	b := treeBuilder{ctx: ctx, from: from}
	w := treeWriter{out: out, o: o, names: o.Names}
	if w.names == nil {
		w.names = nss.New(nss.Config{})
	}
	all := w.names
	for _, p := range order {
		if fleet, ok := all.(*interpret.Fleet); ok {
			w.names = fleet.Of([]byte(p.node))
		}
		parents, err := b.build(p)
		if err != nil {
			return hits, err
		}
		if err := w.tree(p, parents); err != nil {
			return hits, written(err)
		}
	}
	return hits, w.close(none)
}

type treeBuilder struct {
	ctx  context.Context
	from procs
	left int // nodes
}

// build finds a process's children and returns its parents, the nearest first.
func (b *treeBuilder) build(p *process) (parents []*process, err error) {
	b.left = treeNodes
	pad := treeSpan.Milliseconds()
	all := window{max(p.ms-pad, 1), p.ms + pad}
	own, err := b.from.of(b.ctx, p.node, p.PID, all)
	if err != nil {
		return nil, err
	}
	life := lifeOf(own, p, all)
	seen := map[int64]bool{p.PID: true}
	child := p
	for range treeDepth {
		up := child.PPID
		if up <= 0 || seen[up] {
			break
		}
		seen[up] = true
		list, err := b.from.of(b.ctx, p.node, up, window{all.from, all.to})
		if err != nil {
			return nil, err
		}
		parent := &process{sighting: sighting{Task: query.Task{PID: up, PPID: -1, UID: -1, AUID: -1}}, node: p.node}
		if s, ok := latest(list, p.ms); ok {
			parent.sighting = s
		}
		parents = append(parents, parent)
		child = parent
	}
	return parents, b.down(p, life, all, seen, 0)
}

// latest is what was last seen until ms, or else first seen after it.
func latest(list []sighting, ms int64) (sighting, bool) {
	var out sighting
	found := false
	for _, s := range list {
		if s.ms > ms && found {
			break
		}
		out, found = s, true
	}
	return out, found
}

// lifeOf is the time around the process's own in which its id has its parent, or
// was given to the one that takes orphans.
func lifeOf(list []sighting, p *process, all window) window {
	life := all
	if p.PPID < 0 {
		return life
	}
	orphaned := false
	for _, s := range list {
		switch {
		case s.ms <= p.ms && s.PPID != p.PPID:
			life.from = s.ms + 1
		case s.ms > p.ms && s.PPID != p.PPID && (orphaned || s.PPID != 1):
			life.to = s.ms - 1
			return life
		case s.ms > p.ms && s.PPID == 1:
			orphaned = true
		}
	}
	return life
}

// down finds the children of p, which lived as long as life says.
func (b *treeBuilder) down(p *process, life, all window, seen map[int64]bool, depth int) error {
	if depth == treeDepth {
		p.cut = true
		return nil
	}
	list, err := b.from.children(b.ctx, p.node, p.PID, life)
	if err != nil {
		return err
	}
	at := map[int64]*process{}
	for _, s := range list {
		if c := at[s.PID]; c != nil {
			first := c.ms
			c.sighting = s // its latest name
			c.ms = first
			continue
		}
		if seen[s.PID] {
			continue
		}
		if b.left == 0 {
			p.cut = true
			break
		}
		b.left--
		c := &process{sighting: s, node: p.node}
		at[s.PID] = c
		p.children = append(p.children, c)
	}
	for _, c := range p.children {
		seen[c.PID] = true
		own, err := b.from.of(b.ctx, c.node, c.PID, window{c.ms, all.to})
		if err != nil {
			return err
		}
		if err := b.down(c, lifeOf(own, c, window{c.ms, all.to}), all, seen, depth+1); err != nil {
			return err
		}
		delete(seen, c.PID) // an id may come again in another branch
	}
	return nil
}

// indexedProcs queries the source for each process.
type indexedProcs struct {
	src query.Source
	x   query.Extractor
}

func (p *indexedProcs) of(ctx context.Context, node string, pid int64, w window) ([]sighting, error) {
	return p.scan(ctx, node, query.FieldPID, pid, w)
}

func (p *indexedProcs) children(ctx context.Context, node string, ppid int64, w window) ([]sighting, error) {
	return p.scan(ctx, node, query.FieldPPID, ppid, w)
}

func (p *indexedProcs) scan(ctx context.Context, node string, f query.Field, id int64, w window) (out []sighting, err error) {
	q := &query.Query{StartMs: max(w.from, 1), EndMs: max(w.to, 1), Limit: treeEvents, Terms: []query.Term{{Fields: []query.Field{f}, Text: fmt.Sprint(id)}}}
	if node != "" {
		q.Nodes = []string{node}
	}
	last := map[int64]*sighting{}
	err = p.src.Scan(ctx, q, func(ev *event.Event) error {
		s, ok := see(&p.x, ev)
		if !ok || s.PPID < 0 || string(ev.Node) != node {
			return nil
		}
		if before := last[s.PID]; before == nil || !before.same(&s) {
			out = append(out, s)
			last[s.PID] = &s
		}
		return nil
	})
	return out, err
}

// procTable holds all processes of a log, read in one scan. It needs a few words of
// memory for each process and for each change of a process's name.
type procTable struct {
	byPID, byPPID map[string]map[int64][]sighting
	strings       map[string]string
}

func (t *procTable) load(ctx context.Context, src query.Source, w window) error {
	t.byPID, t.byPPID, t.strings = map[string]map[int64][]sighting{}, map[string]map[int64][]sighting{}, map[string]string{}
	var x query.Extractor
	last := map[string]map[int64]sighting{}
	return src.Scan(ctx, &query.Query{StartMs: max(w.from, 1), EndMs: max(w.to, 1)}, func(ev *event.Event) error {
		s, ok := see(&x, ev)
		if !ok || s.PPID < 0 {
			return nil
		}
		node := string(ev.Node)
		if last[node] == nil {
			last[node], t.byPID[node], t.byPPID[node] = map[int64]sighting{}, map[int64][]sighting{}, map[int64][]sighting{}
		}
		if before, ok := last[node][s.PID]; ok && before.same(&s) {
			return nil
		}
		s.Comm, s.Exe = t.intern(s.Comm), t.intern(s.Exe)
		last[node][s.PID] = s
		t.byPID[node][s.PID] = append(t.byPID[node][s.PID], s)
		t.byPPID[node][s.PPID] = append(t.byPPID[node][s.PPID], s)
		return nil
	})
}

func (t *procTable) intern(s string) string {
	if have, ok := t.strings[s]; ok {
		return have
	}
	s = strings.Clone(s)
	t.strings[s] = s
	return s
}

func (t *procTable) of(_ context.Context, node string, pid int64, w window) ([]sighting, error) {
	return within(t.byPID[node][pid], w), nil
}

func (t *procTable) children(_ context.Context, node string, ppid int64, w window) ([]sighting, error) {
	return within(t.byPPID[node][ppid], w), nil
}

func within(list []sighting, w window) []sighting {
	var out []sighting
	for _, s := range list {
		if s.ms >= w.from && s.ms <= w.to {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b sighting) int {
		switch {
		case a.ms < b.ms:
			return -1
		case a.ms > b.ms:
			return 1
		}
		return 0
	})
	return out
}
