package search

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/nss"
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

// sighting is what one event says of a process. Later ones that say the same are
// not kept.
type sighting struct {
	pid, ppid int64
	ms        int64
	serial    uint64
	uid, auid int64
	// What the record itself calls the users, empty when it does not: those of its host.
	uidName, auidName string
	comm, exe         string
}

func (s *sighting) same(o *sighting) bool {
	return s.ppid == o.ppid && s.uid == o.uid && s.auid == o.auid && s.comm == o.comm && s.exe == o.exe
}

// treeFields are what a sighting is made of.
const treeFields fieldSet = 1<<FieldPID | 1<<FieldPPID | 1<<FieldUID | 1<<FieldAUID | 1<<FieldComm | 1<<FieldExe |
	1<<FieldUIDName | 1<<FieldAUIDName

// see reads an event; false when it does not say which process it is of.
func (x *Extractor) see(ev *event.Event) (sighting, bool) {
	x.read(ev, treeFields)
	it := &x.it
	s := sighting{ms: ev.Ms, serial: ev.Serial, pid: it.nums[FieldPID], ppid: -1, uid: -1, auid: -1}
	if it.set.has(FieldPPID) {
		s.ppid = it.nums[FieldPPID]
	}
	if it.set.has(FieldUID) {
		s.uid = it.nums[FieldUID]
	}
	if it.set.has(FieldAUID) {
		s.auid = it.nums[FieldAUID]
	}
	if it.set.has(FieldUIDName) {
		s.uidName = string(it.strs[FieldUIDName])
	}
	if it.set.has(FieldAUIDName) {
		s.auidName = string(it.strs[FieldAUIDName])
	}
	if it.set.has(FieldComm) {
		s.comm = string(it.strs[FieldComm])
	}
	if it.set.has(FieldExe) {
		s.exe = string(it.strs[FieldExe])
	}
	return s, it.set.has(FieldPID)
}

// procs answers what a tree asks.
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
func trees(ctx context.Context, o *Options, src Source, out io.Writer) (hits uint64, err error) {
	type id struct {
		node string
		pid  int64
	}
	var x Extractor
	roots := map[id][]*process{}
	var order []*process
	var none uint64
	span := window{}
	err = src.Scan(ctx, &o.Query, o.Limit, func(ev *event.Event) error {
		hits++
		s, ok := x.see(ev)
		if !ok {
			none++
			return nil
		}
		if span.from == 0 || ev.Ms < span.from {
			span.from = ev.Ms
		}
		span.to = max(span.to, ev.Ms)
		k := id{string(ev.Node), s.pid}
		for _, p := range roots[k] {
			if p.ppid == s.ppid || p.ppid < 0 || s.ppid < 0 || s.ppid == 1 {
				p.hits = append(p.hits, s)
				if p.ppid < 0 {
					p.ppid = s.ppid
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
	var from procs = &indexedProcs{src: src}
	if !isIndexed(src) {
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
	for _, p := range order {
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
	own, err := b.from.of(b.ctx, p.node, p.pid, all)
	if err != nil {
		return nil, err
	}
	life := lifeOf(own, p, all)
	seen := map[int64]bool{p.pid: true}
	child := p
	for range treeDepth {
		up := child.ppid
		if up <= 0 || seen[up] {
			break
		}
		seen[up] = true
		list, err := b.from.of(b.ctx, p.node, up, window{all.from, all.to})
		if err != nil {
			return nil, err
		}
		parent := &process{sighting: sighting{pid: up, ppid: -1, uid: -1, auid: -1}, node: p.node}
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
	if p.ppid < 0 {
		return life
	}
	orphaned := false
	for _, s := range list {
		switch {
		case s.ms <= p.ms && s.ppid != p.ppid:
			life.from = s.ms + 1
		case s.ms > p.ms && s.ppid != p.ppid && (orphaned || s.ppid != 1):
			life.to = s.ms - 1
			return life
		case s.ms > p.ms && s.ppid == 1:
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
	list, err := b.from.children(b.ctx, p.node, p.pid, life)
	if err != nil {
		return err
	}
	at := map[int64]*process{}
	for _, s := range list {
		if c := at[s.pid]; c != nil {
			first := c.ms
			c.sighting = s // its latest name
			c.ms = first
			continue
		}
		if seen[s.pid] {
			continue
		}
		if b.left == 0 {
			p.cut = true
			break
		}
		b.left--
		c := &process{sighting: s, node: p.node}
		at[s.pid] = c
		p.children = append(p.children, c)
	}
	for _, c := range p.children {
		seen[c.pid] = true
		own, err := b.from.of(b.ctx, c.node, c.pid, window{c.ms, all.to})
		if err != nil {
			return err
		}
		if err := b.down(c, lifeOf(own, c, window{c.ms, all.to}), all, seen, depth+1); err != nil {
			return err
		}
		delete(seen, c.pid) // an id may come again in another branch
	}
	return nil
}

// indexedProcs asks a source each time.
type indexedProcs struct {
	src Source
	x   Extractor
}

func (p *indexedProcs) of(ctx context.Context, node string, pid int64, w window) ([]sighting, error) {
	return p.scan(ctx, node, FieldPID, pid, w)
}

func (p *indexedProcs) children(ctx context.Context, node string, ppid int64, w window) ([]sighting, error) {
	return p.scan(ctx, node, FieldPPID, ppid, w)
}

func (p *indexedProcs) scan(ctx context.Context, node string, f Field, id int64, w window) (out []sighting, err error) {
	q := &Query{StartMs: max(w.from, 1), EndMs: max(w.to, 1), Terms: []Term{{Fields: []Field{f}, Text: fmt.Sprint(id)}}}
	if node != "" {
		q.Nodes = []string{node}
	}
	last := map[int64]*sighting{}
	err = p.src.Scan(ctx, q, treeEvents, func(ev *event.Event) error {
		s, ok := p.x.see(ev)
		if !ok || s.ppid < 0 || string(ev.Node) != node {
			return nil
		}
		if before := last[s.pid]; before == nil || !before.same(&s) {
			out = append(out, s)
			last[s.pid] = &s
		}
		return nil
	})
	return out, err
}

// procTable is all processes of a log: a few words for each and each change of
// name, read in one go.
type procTable struct {
	byPID, byPPID map[string]map[int64][]sighting
	strings       map[string]string
}

func (t *procTable) load(ctx context.Context, src Source, w window) error {
	t.byPID, t.byPPID, t.strings = map[string]map[int64][]sighting{}, map[string]map[int64][]sighting{}, map[string]string{}
	var x Extractor
	last := map[string]map[int64]sighting{}
	return src.Scan(ctx, &Query{StartMs: max(w.from, 1), EndMs: max(w.to, 1)}, 0, func(ev *event.Event) error {
		s, ok := x.see(ev)
		if !ok || s.ppid < 0 {
			return nil
		}
		node := string(ev.Node)
		if last[node] == nil {
			last[node], t.byPID[node], t.byPPID[node] = map[int64]sighting{}, map[int64][]sighting{}, map[int64][]sighting{}
		}
		if before, ok := last[node][s.pid]; ok && before.same(&s) {
			return nil
		}
		s.comm, s.exe = t.intern(s.comm), t.intern(s.exe)
		last[node][s.pid] = s
		t.byPID[node][s.pid] = append(t.byPID[node][s.pid], s)
		t.byPPID[node][s.ppid] = append(t.byPPID[node][s.ppid], s)
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
