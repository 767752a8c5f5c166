package spool

// hotTail is the newest entries, in memory. Their indexes are consecutive.
type hotTail struct {
	first uint64 // index of entries[head]
	list  [][]byte
	head  int
	bytes int
}

func (h *hotTail) len() int     { return len(h.list) - h.head }
func (h *hotTail) next() uint64 { return h.first + uint64(h.len()) }

func (h *hotTail) reset(first uint64) { *h = hotTail{first: first} }

func (h *hotTail) push(e []byte) {
	h.list = append(h.list, e)
	h.bytes += entrySize(len(e))
}

// get returns the entry, nil when it isn't here.
func (h *hotTail) get(index uint64) []byte {
	if index < h.first || index >= h.next() {
		return nil
	}
	return h.list[h.head+int(index-h.first)]
}

// drop forgets the entries before index.
func (h *hotTail) drop(index uint64) {
	for h.len() > 0 && h.first < index {
		h.bytes -= entrySize(len(h.list[h.head]))
		h.list[h.head] = nil
		h.head++
		h.first++
	}
	if h.head == len(h.list) {
		h.list, h.head = h.list[:0], 0
	} else if h.head > 64 && h.head > len(h.list)/2 {
		n := copy(h.list, h.list[h.head:])
		clear(h.list[n:])
		h.list, h.head = h.list[:n], 0
	}
}

// shrink forgets the oldest until at most limit bytes are held.
func (h *hotTail) shrink(limit int) {
	if h.bytes <= limit {
		return
	}
	left, index := h.bytes, h.first
	for i := h.head; left > limit && i < len(h.list); i++ {
		left -= entrySize(len(h.list[i]))
		index++
	}
	h.drop(index)
}
