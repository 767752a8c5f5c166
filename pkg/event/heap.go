package event

import (
	"cmp"
	"container/heap"
)

// eventHeap is the heap of a node's open events, the one that is late first at the top, of
// several the oldest (openEvent.before). It implements heap.Interface; each event stores its
// index in the heap.
type eventHeap []*openEvent

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	if c := cmp.Compare(h[i].due, h[j].due); c != 0 {
		return c < 0
	}
	return h[i].before(h[j])
}

func (h eventHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}

func (h *eventHeap) Push(o any) {
	e := o.(*openEvent)
	e.heapIndex = len(*h)
	*h = append(*h, e)
}

func (h *eventHeap) Pop() any {
	last := len(*h) - 1
	o := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return o
}

// fix puts the event at i, whose due has grown, into its place.
func fix(h *eventHeap, i int) {
	if len(*h) > 1 { // as it is for most
		heap.Fix(h, i)
	}
}
