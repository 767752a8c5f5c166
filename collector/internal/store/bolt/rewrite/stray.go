package rewrite

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// A group's events are in the order in which the program that wrote it read them. This one may read more of them: a
// record has a time now whose header an older program did not know. Such an event lies behind later ones, and goes into a
// group of its own.

// strayBytes is how much of strays waits to be a group.
const strayBytes = 32 << 20

// stray is an event that lies behind a later one of its group.
type stray struct {
	host    string
	batch   uint64
	ms      int64
	node    string
	serial  uint64
	text    []byte
	counted bool
	origin  store.Origin
}

// strays are in the order in which they were met.
type strays struct {
	list  []stray
	bytes int
}

// add copies the next event of a group.
func (s *strays) add(h *head) {
	x := stray{host: h.host, batch: h.batch, ms: h.ev.Ms, serial: h.ev.Serial, origin: store.OriginOf(h.ev)}
	if h.host == "" {
		x.node = string(h.ev.Node)
	}
	x.text, x.counted = store.AppendText(nil, h.ev)
	s.list = append(s.list, x)
	s.bytes += len(x.text) + 200
}

// flush calls fn with all of them, in order at rest, and forgets them.
func (s *strays) flush(fn func(h *head) error) error {
	slices.SortStableFunc(s.list, func(a, b stray) int {
		return cmp.Or(strings.Compare(a.host, b.host), cmp.Compare(a.ms, b.ms), strings.Compare(a.node, b.node), cmp.Compare(a.serial, b.serial), cmp.Compare(a.batch, b.batch))
	})
	for i := range s.list {
		x := &s.list[i]
		ev := store.ParseText(x.text, x.counted, []byte(x.host), x.origin)
		ev.Batch = x.batch
		if err := fn(&head{host: x.host, batch: x.batch, ev: ev}); err != nil {
			return err
		}
	}
	s.list, s.bytes = nil, 0
	return nil
}

// place is where a group's event lies in the order at rest.
type place struct {
	some   bool
	host   string
	ms     int64
	node   []byte
	serial uint64
	batch  uint64
}

// follows moves to a group's next event, and reports whether it lies behind the one before. Else it stays.
func (p *place) follows(h *head) bool {
	var node []byte
	if h.host == "" {
		node = h.ev.Node
	}
	if p.some && cmp.Or(strings.Compare(h.host, p.host), cmp.Compare(h.ev.Ms, p.ms), bytes.Compare(node, p.node), cmp.Compare(h.ev.Serial, p.serial), cmp.Compare(h.batch, p.batch)) < 0 {
		return false
	}
	p.some, p.host, p.ms, p.node, p.serial, p.batch = true, h.host, h.ev.Ms, append(p.node[:0], node...), h.ev.Serial, h.batch
	return true
}
