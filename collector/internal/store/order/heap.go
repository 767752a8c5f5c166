package order

import "github.com/auditfleet/auditfleet/collector/internal/store"

// item is what the heap has of a unit: that it is to be opened, or its next event.
type item struct {
	due    int64 // by which the least comes first: times are negated for a reversed query
	event  bool
	node   string
	serial uint64
	batch  uint64
	at     store.PiecePlace
	pos    int
	u      *unit
}

// heap has an item a unit, the first of the answer first. A unit that may have an event of some time goes before events of that time.
type heap struct {
	list    []item
	reverse bool
}

func (h *heap) push(x item) {
	h.list = append(h.list, x)
	for i := len(h.list) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.less(&h.list[i], &h.list[up]) {
			return
		}
		h.list[i], h.list[up] = h.list[up], h.list[i]
		i = up
	}
}

// pop removes the first.
func (h *heap) pop() {
	last := len(h.list) - 1
	h.list[0], h.list[last] = h.list[last], item{}
	h.list = h.list[:last]
	h.down()
}

// down puts the first, which may have become greater, in its place.
func (h *heap) down() {
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(h.list); c++ {
			if h.less(&h.list[c], &h.list[least]) {
				least = c
			}
		}
		if least == i {
			return
		}
		h.list[i], h.list[least] = h.list[least], h.list[i]
		i = least
	}
}

func (h *heap) less(a, b *item) bool {
	switch {
	case a.due != b.due:
		return a.due < b.due
	case a.event != b.event:
		return b.event
	case !a.event: // in whatever order they are opened
		return false
	case h.reverse && b.before(a), !h.reverse && a.before(b):
		return true
	case a.before(b), b.before(a):
		return false
	}
	return a.u.number < b.u.number // of one block: as they came
}

// before is the order of events of one time.
func (i *item) before(o *item) bool {
	p, q := &i.at, &o.at
	switch {
	case i.node != o.node:
		return i.node < o.node
	case i.serial != o.serial:
		return i.serial < o.serial
	case i.batch != o.batch:
		return i.batch < o.batch
	case p.Part != q.Part:
		return p.Part < q.Part
	case p.Group != q.Group:
		return p.Group < q.Group
	}
	return p.Index < q.Index
}
