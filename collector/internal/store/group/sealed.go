package group

import (
	"encoding/binary"
	"fmt"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
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

// root returns the root of the tree over the events, whose text is still in memory.
func (b *builder) root() eventtree.Hash {
	var h eventtree.Hasher
	var e eventtree.Event
	tree := eventtree.NewTree(len(b.ids))
	frame, at := 0, 0
	for i := range b.blocks {
		blk := &b.blocks[i]
		e.Host, e.Counted = b.hosts[b.owner[i]], blk.Counted
		if int(blk.Frame) != frame {
			frame, at = int(blk.Frame), 0
		}
		for range blk.Events {
			o := &b.origins[tree.Len()]
			e.Text, e.From, e.Receipts = b.frames[frame][at], o.From, appendReceipts(e.Receipts[:0], o, 0)
			tree.Add(h.Event(&e))
			at++
		}
	}
	return tree.Root()
}

// EventsRoot reads the text of all events and returns the root of the tree over them: that of EventTree, for half of its
// cost. Error: store.ErrDamaged.
func (g *Group) EventsRoot() (eventtree.Hash, error) {
	if err := g.loadHosts(); err != nil {
		return eventtree.Hash{}, err
	}
	origins, err := g.Origins()
	if err != nil {
		return eventtree.Hash{}, err
	}
	w := rootWalk{g: g, origins: origins, at: -1}
	for i := range g.numBlocks() {
		if err := w.block(i); err != nil {
			return eventtree.Hash{}, err
		}
	}
	return w.tree.Root(), nil
}

// rootWalk is one reading of all events for their tree.
type rootWalk struct {
	g       *Group
	origins *Origins
	frame   []byte
	at      int64 // which frame that is
	hasher  eventtree.Hasher
	event   eventtree.Event
	tree    eventtree.Tree
}

func (w *rootWalk) block(i int) (err error) {
	blk, host := rawBlock(w.g.blocks[i*blockSize:])
	if int(host) >= len(w.g.hosts) {
		return damaged("block %d of host %d of %d", i, host, len(w.g.hosts))
	}
	if w.at != int64(blk.Frame) {
		if w.frame, err = w.g.Text(w.frame, blk.Frame); err != nil {
			return err
		}
		w.at = int64(blk.Frame)
	}
	rest, err := blk.Cut(w.frame)
	if err != nil {
		return err
	}
	e := &w.event
	e.Host, e.Counted = w.g.hosts[host], blk.Counted
	of := w.origins.Block(i, &blk)
	for range blk.Events {
		if e.Text, rest, err = store.CutText(rest, blk.Counted); err != nil {
			return fmt.Errorf("block %d: %w: %w", i, store.ErrDamaged, err)
		}
		o, ms := of.Next(), int64(0)
		if o.ByTime {
			ms = store.FirstMs(e.Text, blk.Counted)
		}
		e.From, e.Receipts = o.From, appendReceipts(e.Receipts[:0], &o, ms)
		w.tree.Add(w.hasher.Event(e))
	}
	return nil
}
