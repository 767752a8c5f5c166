package search

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// The process tree of a hit: who started it, and what it started, as far as
// events say. A process is one life of a pid on a host (tree_lives.go); its name is
// that of its latest event.

// Bounds of a tree. What lies beyond is left out, and the tree says so.
const (
	treeSpan   = 24 * time.Hour // how far before and after the hit
	treeDepth  = 64             // parents, and generations of children
	treeNodes  = 2000
	treeEvents = 20000 // looked at of one process
	treesNodes = 20000 // of all trees that an answer has
)

// process is a node of a tree.
type process struct {
	sighting
	node     string
	life     *life
	asOf     stamp      // when it had this parent
	hits     []sighting // the events found that are its own
	children []*process
	more     int // children that are left out
}

// treeHits are the events that a search for trees found.
type treeHits struct {
	list   []treeHit
	span   window // of all
	none   uint64 // events that name no process
	memory *query.Memory
}

type treeHit struct {
	of pidOf
	sighting
}

func (h *treeHits) add(x *query.Extractor, ev *event.Event) error {
	s, ok := see(x, ev)
	if !ok {
		h.none++
		return nil
	}
	if !h.memory.Take(3*sightingBytes + 3*s.text() + len(ev.Node)) { // in list, by its process, and a life or root of its own
		return tooMany{}
	}
	if h.span.from == 0 || ev.Ms < h.span.from {
		h.span.from = ev.Ms
	}
	h.span.to = max(h.span.to, ev.Ms)
	h.list = append(h.list, treeHit{pidOf{string(ev.Node), s.PID}, s})
	return nil
}

// around is a window with treeSpan before and after it.
func (w window) around() window {
	pad := treeSpan.Milliseconds()
	return window{max(w.from-pad, 1), max(w.to+pad, 1)}
}

// trees writes the tree of each process that has a hit, in the order of the first
// of them. It calls warn where it leaves trees out.
func trees(ctx context.Context, o *Options, src query.Source, out io.Writer, warn func(string)) (hits uint64, err error) {
	var x query.Extractor
	h := treeHits{memory: o.Query.Memory}
	err = src.Scan(ctx, &o.Query, func(ev *event.Event) error {
		hits++
		return h.add(&x, ev)
	})
	if err != nil || len(h.list) == 0 {
		return hits, err
	}
	about, err := src.About(ctx)
	if err != nil {
		return hits, err
	}
	var from procs = &indexedProcs{src: src, all: h.span.around()}
	if !about.Indexed {
		t := &procTable{}
		if err := t.load(ctx, src, h.span.around()); err != nil {
			return hits, err
		}
		from = t
	}
	b := &treeBuilder{ctx: ctx, from: from, known: map[pidOf]*lives{}, memory: o.Query.Memory}
	roots, err := b.roots(&h)
	if err != nil {
		return hits, err
	}
	w := treeWriter{out: out, o: o, names: o.Names}
	if w.names == nil {
		w.names = nss.New(nss.Config{})
	}
	names := w.names
	for i, p := range roots {
		b.memory = query.NewMemory(math.MaxInt64, o.Query.Memory) // given back with the tree
		if w.written >= treesNodes {
			warn(fmt.Sprintf("%d trees are written, which have %d processes; %d more are left out: ask for fewer events, or use --limit", i, w.written, len(roots)-i))
			break
		}
		if fleet, ok := names.(*interpret.Fleet); ok {
			w.names = fleet.Of([]byte(p.node))
		}
		parents, err := b.build(p)
		if err != nil {
			return hits, err
		}
		if err := w.tree(p, parents); err != nil {
			return hits, written(err)
		}
		p.children = nil // written
		b.known = nil
		b.memory.Release()
	}
	return hits, w.close(h.none)
}

// treeBuilder finds the processes of trees.
type treeBuilder struct {
	ctx   context.Context
	from  procs
	known map[pidOf]*lives // within w
	w     window
	left  int // nodes
	// memory is for what is looked at: of the roots all that the answer has, then that of a tree.
	memory *query.Memory
}

// take takes memory for sightings.
func (b *treeBuilder) take(list []sighting) error {
	n := 0
	for i := range list {
		n += sightingBytes + list[i].text()
	}
	if !b.memory.Take(n) {
		return tooMany{}
	}
	return nil
}

// roots are the processes of the events found, in the order of the first event of each.
func (b *treeBuilder) roots(h *treeHits) (all []*process, err error) {
	by := map[pidOf][]sighting{}
	for i := range h.list {
		by[h.list[i].of] = append(by[h.list[i].of], h.list[i].sighting)
	}
	processes := map[*life]*process{}
	for i := range h.list {
		hit := &h.list[i]
		ls := b.known[hit.of]
		if ls == nil {
			if ls, err = b.livesWith(hit.of, by[hit.of]); err != nil {
				return nil, err
			}
			b.known[hit.of] = ls
		}
		l := ls.of(&hit.sighting)
		p := processes[l]
		if p == nil {
			p = &process{node: hit.of.node, life: l}
			processes[l] = p
			all = append(all, p)
		}
		p.hits = append(p.hits, hit.sighting)
	}
	for _, p := range all {
		sortSightings(p.hits)
		p.sighting, p.asOf = p.life.complete(p.hits[0])
	}
	return all, nil
}

// livesWith are the lives of a pid around the events found that are of it.
func (b *treeBuilder) livesWith(k pidOf, hits []sighting) (*lives, error) {
	w := window{hits[0].ms, hits[0].ms}
	for i := range hits {
		w.from, w.to = min(w.from, hits[i].ms), max(w.to, hits[i].ms)
	}
	list, err := b.from.of(b.ctx, k, w.around())
	if err == nil {
		err = b.take(list)
	}
	if err != nil {
		return nil, err
	}
	boots, err := b.from.boots(b.ctx, k.node)
	return newLives(withHits(list, hits), boots), err
}

// lives are the lives of a pid within the window of the tree that is being built.
func (b *treeBuilder) lives(k pidOf) (*lives, error) {
	if ls := b.known[k]; ls != nil {
		return ls, nil
	}
	list, err := b.from.of(b.ctx, k, b.w)
	if err == nil {
		err = b.take(list)
	}
	if err != nil {
		return nil, err
	}
	boots, err := b.from.boots(b.ctx, k.node)
	if err != nil {
		return nil, err
	}
	ls := newLives(list, boots)
	b.known[k] = ls
	return ls, nil
}

// build finds a process's children and returns its parents, the nearest first.
func (b *treeBuilder) build(p *process) (parents []*process, err error) {
	b.left, b.w, b.known = treeNodes, window{p.ms, p.ms}.around(), map[pidOf]*lives{}
	line := []*process{p}
	child, at := p, p.asOf
	for range treeDepth {
		up := child.PPID
		if up <= 0 || isAmong(line, up, at) {
			break
		}
		ls, err := b.lives(pidOf{p.node, up})
		if err != nil {
			return nil, err
		}
		parent := &process{sighting: sighting{Task: query.Task{PID: up, PPID: -1, UID: -1, AUID: -1}}, node: p.node}
		parent.life = ls.at(at)
		if s, ok := parent.life.latest(at); ok {
			// Its own parent is that of then: it may have got another one since.
			parent.sighting = s
			if s.before(at) {
				at = s.stamp
			}
		}
		parents, line = append(parents, parent), append(line, parent)
		child = parent
	}
	return parents, b.down(p, line, 0)
}

// isAmong says whether a pid is, at a time, one of some processes: ids that go round in a
// circle end there, while an id that came again is another process.
func isAmong(list []*process, pid int64, at stamp) bool {
	return slices.ContainsFunc(list, func(p *process) bool { return p.PID == pid && p.life.has(at) })
}

// down finds the children of p, those that were started in its life. line are p and the
// processes above it, depth is how far it is below the one that was found.
func (b *treeBuilder) down(p *process, line []*process, depth int) error {
	list, err := b.from.children(b.ctx, pidOf{p.node, p.PID}, b.w)
	if err == nil {
		err = b.take(list)
	}
	if err != nil {
		return err
	}
	processes := map[*life]*process{}
	left := map[int64]bool{} // pids of those left out
	for _, s := range list {
		if !p.life.has(s.stamp) || isAmong(line, s.PID, s.stamp) {
			continue
		}
		if depth == treeDepth {
			left[s.PID] = true
			continue
		}
		ls, err := b.lives(pidOf{p.node, s.PID})
		if err != nil {
			return err
		}
		l := ls.of(&s)
		if c := processes[l]; c != nil {
			first := c.stamp
			c.sighting = s // its latest name
			c.stamp = first
			continue
		}
		if b.left == 0 {
			left[s.PID] = true
			continue
		}
		b.left--
		c := &process{sighting: s, node: p.node, life: l}
		processes[l] = c
		p.children = append(p.children, c)
	}
	p.more = len(left)
	for _, c := range p.children {
		if err := b.down(c, append(line[:len(line):len(line)], c), depth+1); err != nil {
			return err
		}
	}
	return nil
}
