package group

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// Merger reads the events of several rows of groups in their order at rest, which those of a row have from each to the next. So events of one batch come
// as they stood in the group that it was stored in. It is for one goroutine.
type Merger struct {
	codec *Codec
	want  func(batch uint64) bool
	rows  []*mergedRow
	last  *mergedRow // whose event was given out
	place place      // of that event
	row   int        // which row that is
	hash  eventtree.Hasher
	buf   []byte
	times []int64
}

// mergedRow is one row of groups.
type mergedRow struct {
	next  func() ([]byte, error)
	cur   *Cursor
	batch uint64
	ev    *event.Event // nil: no more
	host  string
}

// Merged is an event that a Merger gives out: valid until the next one is asked for.
type Merged struct {
	Host  string // as the group has it; "" for those that are not told apart
	Batch uint64
	Event *event.Event
	Row   int // which row it comes from
	// Tied says that it and the one before have the same place in the order of their batch, and come from different rows: which of them
	// was stored first is not known.
	Tied bool
}

// NewMerger begins to read the events of the batches that are wanted. Each row gives its groups' bytes one after the other, nil behind the last.
func (c *Codec) NewMerger(want func(batch uint64) bool, rows ...func() ([]byte, error)) *Merger {
	m := &Merger{codec: c, want: want}
	for _, next := range rows {
		m.rows = append(m.rows, &mergedRow{next: next})
	}
	return m
}

// Next returns the next event. Errors: io.EOF behind the last one; store.ErrDamaged, and those of the rows.
func (m *Merger) Next() (Merged, error) {
	if m.last == nil {
		for _, r := range m.rows {
			if err := m.forward(r); err != nil {
				return Merged{}, err
			}
		}
	} else if err := m.forward(m.last); err != nil {
		return Merged{}, err
	}
	at := -1
	for i, r := range m.rows { // few
		if r.ev != nil && (at < 0 || r.compare(m.rows[at]) < 0) {
			at = i
		}
	}
	if at < 0 {
		return Merged{}, io.EOF
	}
	m.last = m.rows[at]
	e := Merged{Host: m.last.host, Batch: m.last.batch, Event: m.last.ev, Row: at}
	p := &m.place
	node := e.Event.Node
	if e.Host != "" {
		node = nil
	}
	same := p.batch == e.Batch && p.host == e.Host && p.ms == e.Event.Ms && p.serial == e.Event.Serial && string(p.node) == string(node)
	e.Tied = same && m.row != at
	p.host, p.ms, p.node, p.serial, p.batch = e.Host, e.Event.Ms, append(p.node[:0], node...), e.Event.Serial, e.Batch
	m.row = at
	return e, nil
}

func (r *mergedRow) compare(o *mergedRow) int {
	c := cmp.Or(strings.Compare(r.host, o.host), cmp.Compare(r.ev.Ms, o.ev.Ms))
	if c == 0 && r.host == "" {
		c = strings.Compare(string(r.ev.Node), string(o.ev.Node))
	}
	return cmp.Or(c, cmp.Compare(r.ev.Serial, o.ev.Serial), cmp.Compare(r.batch, o.batch))
}

// forward goes on to the next wanted event of a row.
func (m *Merger) forward(r *mergedRow) error {
	for {
		if r.cur == nil {
			b, err := r.next()
			if err != nil {
				return err
			}
			if b == nil {
				r.ev = nil
				return nil
			}
			g, err := m.codec.Open(b)
			if err == nil {
				r.cur, err = g.Cursor(0, math.MinInt64, math.MaxInt64)
			}
			if err != nil {
				return err
			}
		}
		host, batch, ev, err := r.cur.Next()
		switch {
		case errors.Is(err, io.EOF):
			r.cur = nil
		case err != nil:
			return fmt.Errorf("merge groups: %w", err)
		case m.want(batch):
			r.host, r.batch, r.ev = host, batch, ev
			return nil
		}
	}
}

// Hash returns the hash of the event that was given out, as the tree over its batch's events has it, and that by the name that it goes by: see
// EventTree.
func (m *Merger) Hash() (hash, mixed eventtree.Hash) {
	r := m.last
	e := eventtree.Event{Host: r.host, From: r.ev.From}
	m.buf, e.Counted = store.AppendText(m.buf[:0], r.ev)
	m.times = eventtree.AppendReceipts(m.times[:0], r.ev)
	e.Text, e.Receipts = m.buf, m.times
	hash = m.hash.Event(&e)
	mixed = hash
	if r.host == "" {
		e.Host = string(r.ev.Node)
		mixed = m.hash.Event(&e)
	}
	return hash, mixed
}
