package group

import (
	"fmt"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Each calls fn with every event and the name of its host, in the order of their
// ordinals. The event is valid until fn returns. The first error ends the walk: fn's own,
// or one that wraps store.ErrDamaged.
func (g *Group) Each(fn func(host string, ev *event.Event) error) error {
	return g.each(func(blk *Block, _ []byte, ev *event.Event) error { return fn(blk.Host, ev) })
}

// EachHost calls fn with the name of each host that the group has events of. Error:
// store.ErrDamaged.
func (g *Group) EachHost(fn func(host string)) error {
	if err := g.loadHosts(); err != nil {
		return err
	}
	for _, name := range g.hosts {
		fn(name)
	}
	return nil
}

// EventTree reads all events of the group and returns the tree over them. fn, where it is not nil,
// is called with each event's ordinal and hash; mixed is its hash by the name that it goes by where its host is
// not told apart from others, else it is hash. Error: store.ErrDamaged.
func (g *Group) EventTree(fn func(ordinal int64, hash, mixed eventtree.Hash)) (*eventtree.Tree, error) {
	var h eventtree.Hasher
	var e eventtree.Event
	t := &eventtree.Tree{}
	err := g.each(func(blk *Block, text []byte, ev *event.Event) error {
		e = eventtree.Event{Host: blk.Host, From: ev.From, Receipts: eventtree.AppendReceipts(e.Receipts[:0], ev), Counted: blk.Counted, Text: text}
		hash := h.Event(&e)
		if fn != nil {
			mixed := hash
			if blk.Host == "" {
				e.Host = string(ev.Node)
				mixed = h.Event(&e)
			}
			fn(t.Len(), hash, mixed)
		}
		t.Add(hash)
		return nil
	})
	return t, err
}

// each is Each with the event's block and text.
func (g *Group) each(fn func(blk *Block, text []byte, ev *event.Event) error) error {
	blocks, err := g.Plan(&query.Query{}, nil)
	if err != nil {
		return err
	}
	origins, err := g.Origins()
	if err != nil {
		return err
	}
	var ev event.Event
	var frame []byte
	for i, c := range blocks {
		blk := &c.Block
		if i == 0 || blocks[i-1].Block.Frame != blk.Frame {
			if frame, err = g.Text(frame, blk.Frame); err != nil {
				return err
			}
		}
		rest, err := blk.Cut(frame)
		if err != nil {
			return err
		}
		of, host := origins.Block(c.Index, blk), []byte(blk.Host)
		for range blk.Events {
			var text []byte
			if text, rest, err = store.CutText(rest, blk.Counted); err != nil {
				return fmt.Errorf("block %d: %w: %w", c.Index, store.ErrDamaged, err)
			}
			store.ParseInto(&ev, text, blk.Counted, host, of.Next())
			if err := fn(blk, text, &ev); err != nil {
				return err
			}
		}
	}
	return nil
}
