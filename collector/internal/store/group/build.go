package group

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// fullRaw and fullMemory are when a Builder is full: so many bytes of records, or so much memory.
const (
	fullRaw    = 64 << 20
	fullMemory = 256 << 20
)

// Builder makes one group of the events of many batches. It is for one goroutine.
type Builder struct {
	c       *Codec
	t       *store.Table
	last    place
	batches []uint64 // by ordinal
}

// NewBuilder begins a group.
func (c *Codec) NewBuilder() *Builder { return &Builder{c: c, t: store.NewTable()} }

// Add adds an event, which has a record at least: ev and its bytes are the caller's again afterwards. Events come in order of host,
// time, node, serial and batch; it errs for one that does not, for one without records, and for batch 0, and takes none of these.
func (b *Builder) Add(host string, batch uint64, ev *event.Event) error {
	if len(ev.Records) == 0 || batch == 0 {
		return fmt.Errorf("build a group: an event of %d records, of batch %d", len(ev.Records), batch)
	}
	if err := b.last.move(host, batch, ev, len(b.batches) == 0); err != nil {
		return fmt.Errorf("build a group: %w", err)
	}
	b.t.Add(host, ev)
	b.batches = append(b.batches, batch)
	return nil
}

// Events returns how many events were added.
func (b *Builder) Events() int { return len(b.batches) }

// Full says that the group has as much as one should have: finish it, and begin another.
func (b *Builder) Full() bool {
	s := b.t.Stats()
	return s.RawBytes >= fullRaw || s.MemBytes >= fullMemory
}

// Finish returns the group and its summary, once. It errs where no event was added.
func (b *Builder) Finish() (blob []byte, sum Summary, err error) {
	blob, sum, _, err = b.c.encode(b.t, b.batches, false)
	b.t, b.batches = nil, nil
	return blob, sum, err
}

// place is where an event lies in the order at rest.
type place struct {
	host   string
	ms     int64
	node   []byte // of a host of mixed nodes only
	serial uint64
	batch  uint64
}

// move goes to an event's place. It errs, and stays, where that lies before the present one.
func (p *place) move(host string, batch uint64, ev *event.Event, first bool) error {
	node := ev.Node
	if host != "" {
		node = nil
	}
	c := cmp.Or(strings.Compare(host, p.host), cmp.Compare(ev.Ms, p.ms), bytes.Compare(node, p.node), cmp.Compare(ev.Serial, p.serial), cmp.Compare(batch, p.batch))
	if c < 0 && !first {
		return fmt.Errorf("event %d:%d of host %.80q in batch %d comes behind %d:%d of host %.80q in batch %d",
			ev.Ms, ev.Serial, host, batch, p.ms, p.serial, p.host, p.batch)
	}
	p.host, p.ms, p.node, p.serial, p.batch = host, ev.Ms, append(p.node[:0], node...), ev.Serial, batch
	return nil
}
