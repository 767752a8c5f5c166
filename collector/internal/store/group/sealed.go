package group

import (
	"encoding/binary"
	"fmt"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// appendReceipts appends when an event's records were received, as the tree over a group's events
// has it: one receipt, or one a record where they came at different times.
func appendReceipts(dst []int64, o *store.Origin, ms int64) []int64 {
	at := o.Received
	if o.ByTime {
		at += ms
	}
	dst = append(dst, at)
	for later := o.Later; later != ""; {
		gap, n := binary.Varint([]byte(later[:min(len(later), binary.MaxVarintLen64)]))
		if n <= 0 {
			return dst
		}
		at, later = at+gap, later[n:]
		dst = append(dst, at)
	}
	return dst
}

// tree returns the tree over the events, whose text is still in memory.
func (b *builder) tree(d *store.Division) *eventtree.Tree {
	var h eventtree.Hasher
	var e eventtree.Event
	hashes := make([]eventtree.Hash, 0, len(b.ids))
	frame, at := 0, 0
	for i := range b.blocks {
		blk := &b.blocks[i]
		e.Host, e.Counted = b.hosts[b.owner[i]], blk.Counted
		if int(blk.Frame) != frame {
			frame, at = int(blk.Frame), 0
		}
		for range blk.Events {
			o := &b.origins[len(hashes)]
			e.Text, e.From, e.Receipts = b.frames[frame][at], o.From, appendReceipts(e.Receipts[:0], o, 0)
			hashes = append(hashes, h.Event(&e))
			at++
		}
	}
	return placed(d, hashes)
}

// EventsRoot reads the text of all events and returns the root of the tree over them. Error: store.ErrDamaged.
func (g *Group) EventsRoot() (eventtree.Hash, error) {
	d, err := g.Division()
	if err != nil {
		return eventtree.Hash{}, err
	}
	var h eventtree.Hasher
	hashes := make([]eventtree.Hash, 0, min(g.Summary.Events, 1<<16))
	err = g.walk(nil, g.Text, func(_ int64, e *eventtree.Event) error {
		hashes = append(hashes, h.Event(e))
		return nil
	})
	if err != nil {
		return eventtree.Hash{}, err
	}
	return placed(d, hashes).Root(), nil
}

// EventTree is EventsRoot for who looks for events: it returns the tree, and calls fn, where it is not nil, with each event's ordinal (its place, where the batch is divided by classes) and
// hash; mixed is its hash by the name that it goes by where its host is
// not told apart from others, else it is hash. Error: store.ErrDamaged.
func (g *Group) EventTree(fn func(ordinal int64, hash, mixed eventtree.Hash)) (*eventtree.Tree, error) {
	t := &eventtree.Tree{}
	d, err := g.Division()
	if err != nil {
		return t, err
	}
	give := func(ordinal int64, hash, mixed eventtree.Hash) {
		t.Add(hash)
		if fn != nil {
			fn(ordinal, hash, mixed)
		}
	}
	if d == nil {
		return t, g.eachHash(nil, give)
	}
	type both struct{ hash, mixed eventtree.Hash }
	list := make([]both, 0, min(g.Summary.Events, 1<<16))
	if err := g.eachHash(nil, func(_ int64, hash, mixed eventtree.Hash) { list = append(list, both{hash, mixed}) }); err != nil {
		return t, err
	}
	for i, x := range inPlaces(d, list) {
		give(int64(i), x.hash, x.mixed)
	}
	return t, nil
}

// Find calls fn as EventTree does, with the events of some hosts only and those of hosts that are not told apart.
func (g *Group) Find(hosts map[string]bool, fn func(ordinal int64, hash, mixed eventtree.Hash)) error {
	return g.eachHash(func(blk *Block) bool { return blk.Host == "" || hosts[blk.Host] }, fn)
}

func (g *Group) eachHash(want func(*Block) bool, fn func(ordinal int64, hash, mixed eventtree.Hash)) error {
	var h eventtree.Hasher
	var ev event.Event
	return g.walk(want, g.Text, func(ordinal int64, e *eventtree.Event) error {
		hash := h.Event(e)
		mixed := hash
		if e.Host == "" {
			store.ParseInto(&ev, e.Text, e.Counted, nil, store.Origin{From: e.From})
			e.Host = string(ev.Node)
			mixed = h.Event(e)
			e.Host = ""
		}
		fn(ordinal, hash, mixed)
		return nil
	})
}

// walk calls fn with each event of the blocks that are wanted, nil for all, as it is hashed; read returns the text of a frame, as
// Text does. The event is valid until fn returns.
func (g *Group) walk(want func(*Block) bool, read func(buf []byte, frame uint32) ([]byte, error), fn func(ordinal int64, e *eventtree.Event) error) error {
	if err := g.loadHosts(); err != nil {
		return err
	}
	origins, err := g.Origins()
	if err != nil {
		return err
	}
	w := walk{g: g, origins: origins, read: read, at: -1}
	for i := range g.numBlocks() {
		if err := w.block(i, want, fn); err != nil {
			return err
		}
	}
	return nil
}

// walk is one reading of events for their hashes.
type walk struct {
	g       *Group
	origins *Origins
	read    func(buf []byte, frame uint32) ([]byte, error)
	frame   []byte
	at      int64 // which frame that is
	event   eventtree.Event
}

func (w *walk) block(i int, want func(*Block) bool, fn func(ordinal int64, e *eventtree.Event) error) (err error) {
	blk, host := rawBlock(w.g.blocks[i*blockSize:])
	if int(host) >= len(w.g.hosts) {
		return damaged("block %d of host %d of %d", i, host, len(w.g.hosts))
	}
	blk.Host = w.g.hosts[host]
	if want != nil && !want(&blk) {
		return nil
	}
	if w.at != int64(blk.Frame) {
		if w.frame, err = w.read(w.frame, blk.Frame); err != nil {
			return err
		}
		w.at = int64(blk.Frame)
	}
	rest, err := blk.Cut(w.frame)
	if err != nil {
		return err
	}
	e := &w.event
	e.Host, e.Counted = blk.Host, blk.Counted
	of := w.origins.Block(i, &blk)
	for j := range blk.Events {
		if e.Text, rest, err = store.CutText(rest, blk.Counted); err != nil {
			return fmt.Errorf("block %d: %w: %w", i, store.ErrDamaged, err)
		}
		o, ms := of.Next(), int64(0)
		if o.ByTime {
			ms = store.FirstMs(e.Text, blk.Counted)
		}
		e.From, e.Receipts = o.From, appendReceipts(e.Receipts[:0], &o, ms)
		if err := fn(int64(blk.First)+int64(j), e); err != nil {
			return err
		}
	}
	return nil
}
