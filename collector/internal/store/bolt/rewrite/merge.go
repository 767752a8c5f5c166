package rewrite

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// merge gives the events of many groups in their common order: host, time, node, serial and batch, and of one batch as its
// group has them. It is a heap of the groups, each under its next event.
type merge struct {
	heap  []*head
	stray func(h *head) // called with an event that is out of order, which is passed over
}

// head is a group with its next event.
type head struct {
	cur   *group.Cursor
	index int // of the group
	id    uint64
	host  string
	batch uint64
	ev    *event.Event
	at    place
}

// newMerge begins to read the events of groups from a time to before another.
func newMerge(c *group.Codec, groups []Group, wanted func(i int) bool, from, to int64, stray func(h *head)) (*merge, error) {
	m := &merge{stray: stray}
	for i := range groups {
		if !wanted(i) {
			continue
		}
		g, err := c.Open(groups[i].Bytes)
		if err != nil {
			return nil, fmt.Errorf("group %d: %w", groups[i].ID, err)
		}
		h := &head{index: i, id: groups[i].ID}
		if h.cur, err = g.Cursor(h.id, from, to); err != nil {
			return nil, fmt.Errorf("group %d: %w", h.id, err)
		}
		more, err := m.next(h)
		if err != nil {
			return nil, err
		}
		if more {
			m.heap = append(m.heap, h)
		}
	}
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		m.down(i)
	}
	return m, nil
}

// next reads the group's next event; false behind the last.
func (m *merge) next(h *head) (more bool, err error) {
	for {
		h.host, h.batch, h.ev, err = h.cur.Next()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("group %d: %w", h.id, err)
		}
		if h.at.follows(h) {
			return true, nil
		}
		m.stray(h)
	}
}

// top returns the group with the next event; nil when there is none. What it has is valid until pop.
func (m *merge) top() *head {
	if len(m.heap) == 0 {
		return nil
	}
	return m.heap[0]
}

// pop passes over the next event.
func (m *merge) pop() error {
	more, err := m.next(m.heap[0])
	if err != nil {
		return err
	}
	if !more {
		last := len(m.heap) - 1
		m.heap[0] = m.heap[last]
		m.heap = m.heap[:last]
	}
	m.down(0)
	return nil
}

// down moves a group to its place among those below it.
func (m *merge) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c < len(m.heap) && c <= 2*i+2; c++ {
			if m.heap[c].before(m.heap[least]) {
				least = c
			}
		}
		if least == i {
			return
		}
		m.heap[i], m.heap[least] = m.heap[least], m.heap[i]
		i = least
	}
}

// before is the order at rest. Groups that have events of one batch were made one after the other, so their order
// decides last.
func (h *head) before(o *head) bool {
	if h.host != o.host {
		return strings.Compare(h.host, o.host) < 0
	}
	if h.ev.Ms != o.ev.Ms {
		return h.ev.Ms < o.ev.Ms
	}
	node := 0
	if h.host == "" { // the host of mixed nodes
		node = bytes.Compare(h.ev.Node, o.ev.Node)
	}
	return cmp.Or(node, cmp.Compare(h.ev.Serial, o.ev.Serial), cmp.Compare(h.batch, o.batch), cmp.Compare(h.index, o.index)) < 0
}
