package bolt

import (
	"math"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

var (
	_ store.Listed  = (*Outbox)(nil)
	_ store.Sharing = (*Outbox)(nil)
)

// Roster implements store.Listed.
func (o *Outbox) Roster() store.Roster {
	if r, err := store.Able[store.Roster](o.engine, "list collectors"); err == nil {
		return r
	}
	return nil
}

// Shared implements store.Sharing.
func (o *Outbox) Shared() store.Shared {
	if s, err := store.Able[store.Shared](o.engine, "share holds"); err == nil {
		return s
	}
	return nil
}

// Delivered implements store.Listed.
func (o *Outbox) Delivered() uint64 {
	o.mu.Lock()
	through := o.through
	o.mu.Unlock()
	first := uint64(math.MaxUint64)
	for _, e := range o.local.entriesAfter(through) {
		first = min(first, e.id-1)
	}
	return first
}
