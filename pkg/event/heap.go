package event

// eventHeap is the heap of a node's open events, the oldest at the top
// (openEvent.before). It implements heap.Interface; each event stores its index in the
// heap.
type eventHeap []*openEvent

func (h eventHeap) Len() int           { return len(h) }
func (h eventHeap) Less(i, j int) bool { return h[i].before(h[j]) }

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
