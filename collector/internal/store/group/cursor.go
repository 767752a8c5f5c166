package group

import (
	"fmt"
	"io"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// Cursor reads a group's events one after the other, in their order at rest: by host, and of a host by time, node, serial and
// batch. It holds one frame's text at a time, and reads the group's bytes whenever it comes to another frame. It is for one goroutine.
type Cursor struct {
	g        *Group
	from, to int64
	one      uint64 // the batch of a group that is one
	origins  *Origins
	batches  *Batches

	next  int // block
	at    int64
	frame []byte // frame at, -1: none

	blk      Block // being read; left and rest are what it still has
	left     uint32
	rest     []byte
	host     []byte
	receipts OriginReader
	batch    BatchReader
	ev       event.Event
}

// Cursor begins to read a group, the events with from <= ms < to only. batch is the batch of a group that is one; one of many
// says so itself. Errors: store.ErrDamaged.
func (g *Group) Cursor(batch uint64, from, to int64) (*Cursor, error) {
	if err := g.loadHosts(); err != nil {
		return nil, err
	}
	c := &Cursor{g: g, from: from, to: to, one: batch, at: -1}
	var err error
	if c.origins, err = g.Origins(); err != nil {
		return nil, err
	}
	c.batches, err = g.Batches()
	return c, err
}

// Next returns the next event, the name of its host and its batch, which the event has too. All but the name are valid until Next is called
// again. Errors: io.EOF behind the last event; store.ErrDamaged, after which nothing more can be read.
func (c *Cursor) Next() (host string, batch uint64, ev *event.Event, err error) {
	for {
		for c.left == 0 {
			if err := c.block(); err != nil {
				return "", 0, nil, err
			}
		}
		c.left--
		var text []byte
		if text, c.rest, err = store.CutText(c.rest, c.blk.Counted); err != nil {
			c.next, c.left = c.g.numBlocks(), 0
			return "", 0, nil, fmt.Errorf("%w: an event of host %.80q: %w", store.ErrDamaged, c.blk.Host, err)
		}
		store.ParseInto(&c.ev, text, c.blk.Counted, c.host, c.receipts.Next())
		c.ev.Batch = c.batch.Next()
		if c.ev.Ms >= c.from && c.ev.Ms < c.to {
			return c.blk.Host, c.ev.Batch, &c.ev, nil
		}
	}
}

// block goes on to the next block that has events of the time that is wanted.
func (c *Cursor) block() error {
	for ; c.next < c.g.numBlocks(); c.next++ {
		blk, host := rawBlock(c.g.blocks[c.next*blockSize:])
		if blk.MaxMs < c.from || blk.MinMs >= c.to {
			continue
		}
		if int(host) >= len(c.g.hosts) {
			return damaged("block %d of host %d of %d", c.next, host, len(c.g.hosts))
		}
		blk.Host = c.g.hosts[host]
		if c.at != int64(blk.Frame) {
			c.at = -1
			var err error
			if c.frame, err = c.g.Text(c.frame, blk.Frame); err != nil {
				return err
			}
			c.at = int64(blk.Frame)
		}
		rest, err := blk.Cut(c.frame)
		if err != nil {
			return err
		}
		c.blk, c.left, c.rest, c.host = blk, blk.Events, rest, append(c.host[:0], blk.Host...)
		c.receipts, c.batch = c.origins.Block(c.next, &blk), c.batches.Block(c.next, &blk, c.one)
		c.next++
		return nil
	}
	return io.EOF
}
