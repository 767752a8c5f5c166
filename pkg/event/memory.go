package event

import (
	"slices"

	"github.com/auditfleet/auditfleet/pkg/record"
)

// What open events take in memory. A short record has fewer bytes than the structures
// that are kept for it, so a limit on records' bytes alone would not limit memory.
// TestBytesAreMemory compares these figures with the heap.
const (
	recordCost = 168       // a record.Record
	tagCost    = 8         // and its tag
	slabCost   = 1152      // an event with room for slabRecords
	openCost   = 128 + 72  // an openEvent, its places in the map and in the heap
	nodeFixed  = 120 + 104 // a node with a small heap, its place in the map
	eventCost  = slabCost + openCost

	// How much an Assembler without open events keeps to be used again.
	spareEvents = 16
	spareNodes  = 4
	spareHeap   = 16
	spareName   = 256
	maxIdle     = 64 // events for which the maps may keep room
)

// nodeCost returns the memory of a node with that name.
func nodeCost(name []byte) int { return nodeFixed + textCost(len(name)) }

// textCost returns the memory that the allocator takes for n bytes.
func textCost(n int) int { return (n + 15) &^ 15 }

// spilled returns the memory of an event's records and tags once they have outgrown the room
// of a slab, 0 before.
func spilled(ev *Event) int {
	n := 0
	if c := cap(ev.Records); c > slabRecords {
		n += c * recordCost
	}
	if c := cap(ev.tags); c > slabRecords {
		n += c * tagCost
	}
	return n
}

// append adds a record to an open event, and its memory to the counts.
func (a *Assembler) append(o *openEvent, r *record.Record, tag uint64) {
	more := textCost(len(r.Raw)) - spilled(o.ev)
	o.ev.Records = append(o.ev.Records, *r)
	o.ev.tags = append(o.ev.tags, tag)
	more += spilled(o.ev)
	o.bytes += more
	a.bytes += more
}

// Bytes returns the approximate memory of the open events in bytes. It includes the bytes
// of their records, as far as the records do not share a larger buffer; see Own.
func (a *Assembler) Bytes() int { return a.bytes }

// Own copies the bytes of those records of open events whose tags are equal to or greater
// than from. A caller whose records point into a larger buffer calls it before it
// releases the buffer; otherwise one open event would keep the whole buffer in memory.
func (a *Assembler) Own(from uint64) {
	for o := a.lru.prev; o != &a.lru; o = o.prev {
		ev := o.ev
		if n := len(ev.tags); n == 0 || ev.tags[n-1] < from {
			return // the events before it in the ring got their last record earlier
		}
		for i := len(ev.tags) - 1; i >= 0 && ev.tags[i] >= from; i-- {
			r := &ev.Records[i]
			node, received, raw := r.Node, r.Received, slices.Clone(r.Raw)
			_ = r.Parse(raw)                  // no error: Add took it without one
			r.Raw, r.Received = raw, received // Parse takes a newline off and clears the receipt
			if r.Node == nil {
				r.Node = node // the caller has set it, and owns its bytes
			}
		}
		ev.Node = ev.Records[0].Node
	}
}
