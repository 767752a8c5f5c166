package group

import (
	"fmt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Each calls fn with every event and the name of its host, in the order of their
// ordinals. The event is valid until fn returns. The first error ends the walk: fn's own,
// or one that wraps store.ErrDamaged.
func (g *Group) Each(fn func(host string, ev *event.Event) error) error {
	blocks, err := g.Plan(&query.Query{}, nil)
	if err != nil {
		return err
	}
	origins, err := g.Origins()
	if err != nil {
		return err
	}
	var ev event.Event
	var frame []byte
	for i, c := range blocks {
		blk := &c.Block
		if i == 0 || blocks[i-1].Block.Frame != blk.Frame {
			if frame, err = g.Text(frame, blk.Frame); err != nil {
				return err
			}
		}
		rest, err := blk.Cut(frame)
		if err != nil {
			return err
		}
		of, host := origins.Block(c.Index, blk), []byte(blk.Host)
		for range blk.Events {
			var text []byte
			if text, rest, err = store.CutText(rest, blk.Counted); err != nil {
				return fmt.Errorf("block %d: %w: %w", c.Index, store.ErrDamaged, err)
			}
			store.ParseInto(&ev, text, blk.Counted, host, of.Next())
			if err := fn(blk.Host, &ev); err != nil {
				return err
			}
		}
	}
	return nil
}

// EachHost calls fn with the name of each host that the group has events of. Error:
// store.ErrDamaged.
func (g *Group) EachHost(fn func(host string)) error {
	if err := g.loadHosts(); err != nil {
		return err
	}
	for _, name := range g.hosts {
		fn(name)
	}
	return nil
}
