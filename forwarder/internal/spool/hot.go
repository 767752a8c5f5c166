package spool

// hotTail holds the newest entries in memory. Their indexes are consecutive: list[head+i]
// is entry first+i. Spool.mu guards it. Readers keep entries after they have left the
// hot tail; their bytes never change.
type hotTail struct {
	first uint64   // index of list[head]
	list  [][]byte // entries before head are nil
	head  int
	bytes int // about what the entries from head on take, by entrySize
}

func (h *hotTail) len() int     { return len(h.list) - h.head }
func (h *hotTail) next() uint64 { return h.first + uint64(h.len()) }

func (h *hotTail) reset(first uint64) { *h = hotTail{first: first} }

func (h *hotTail) push(e []byte) {
	h.list = append(h.list, e)
	h.bytes += entrySize(len(e))
}

// get returns the entry with that index, nil when the hot tail does not hold it.
func (h *hotTail) get(index uint64) []byte {
	if index < h.first || index >= h.next() {
		return nil
	}
	return h.list[h.head+int(index-h.first)]
}

// drop removes the entries before index. It moves the rest to the front of list once more
// than half of list is empty, so that a drop costs constant time on average.
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

// shrink removes the oldest entries until at most limit bytes are left.
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
