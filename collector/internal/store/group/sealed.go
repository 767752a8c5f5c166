package group

import (
	"encoding/binary"

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

// root returns the root of the tree over the builder's events.
func (b *builder) root() eventtree.Hash {
	var h eventtree.Hasher
	var t eventtree.Tree
	var e eventtree.Event
	ord, frame, at := 0, uint32(0), 0
	for i := range b.blocks {
		blk := &b.blocks[i]
		if blk.Frame != frame {
			frame, at = blk.Frame, 0
		}
		e.Host, e.Counted = b.hosts[b.owner[i]], blk.Counted
		for range blk.Events {
			e.From, e.Text = b.origins[ord].From, b.frames[frame][at]
			e.Receipts = appendReceipts(e.Receipts[:0], &b.origins[ord], b.times[ord])
			t.Add(h.Event(&e))
			ord, at = ord+1, at+1
		}
	}
	return t.Root()
}
