package head

import (
	"context"
	"fmt"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// Imported is a batch of an import, and what is counted of its hosts.
type Imported struct {
	store.Import
	Events *store.Table           // nil: the note alone is kept. Nobody adds to it any more
	Hosts  map[string]ImportCount // by the names under which Events has them
	// Numbered, where it is not nil, hears the batch's number before anybody can find its events.
	Numbered func(batch uint64)
}

// ImportCount is what a batch of an import has of a host.
type ImportCount struct {
	Records, Bytes uint64
	LastMs         int64 // the greatest time of an event
}

// importing is a batch on its way from an importer to run.
type importing struct {
	Imported
	stored chan struct{} // closed once it is stored; run hands it to flush, by ID
	batch  uint64
	handed chan error
}

// Import has the store keep a batch of an import, between batches of what senders send, and
// returns its number once it is durable. What the tables have goes before, as a batch of its
// own. Such events are given to no follower and no plugin, are no sign of life of their hosts, and
// are in no ledger. After an error of ctx the batch may be stored yet.
func (h *Head) Import(ctx context.Context, in Imported) (batch uint64, err error) {
	if _, err := h.Imports(); err != nil {
		return 0, err
	}
	if err := store.CheckImport(in.Name); err != nil {
		return 0, err
	}
	x := &importing{Imported: in, stored: make(chan struct{}), handed: make(chan error, 1)}
	select {
	case h.importAsked <- x:
	case <-h.ranEnd:
		return 0, ErrClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	h.j.Poke()
	select {
	case err = <-x.handed:
	case <-h.ranEnd:
		err = ErrClosed
	}
	if err != nil {
		return 0, err
	}
	select {
	case <-x.stored:
		return x.batch, nil
	case <-h.ctx.Done():
		return 0, ErrClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// takeImport gives a batch of an import its number and hands it to flush. The table that is filled is cut
// before: its events may have been given out with its number, which stays theirs. It is run's.
func (h *Head) takeImport(x *importing) error {
	if err := h.cut(false); err != nil {
		return err
	}
	now := h.opts.Now()
	h.mu.Lock()
	b := &store.Batch{ID: h.active.id, At: now, Day: store.DayOf(now), Events: x.Events, LSN: h.lsn, Import: &x.Import}
	h.active.id++ // nothing is in it
	for st := range h.openStreams {
		b.Open = st.asm.OpenTags(b.Open)
	}
	for name, n := range x.Hosts {
		b.Hosts = append(b.Hosts, h.countImported(name, n, now))
	}
	x.batch = b.ID
	h.imports[b.ID] = x.stored
	h.mu.Unlock()
	sortOpen(b)
	if x.Numbered != nil {
		x.Numbered(b.ID)
	}
	select {
	case h.flushQ <- b:
		return nil
	case <-h.ctx.Done():
		return ErrClosed
	}
}

// countImported counts an import's records among a host's. One that no sender has ever sent of has no time of
// receipt. mu is held.
func (h *Head) countImported(name string, n ImportCount, now time.Time) store.Host {
	x := h.hosts[name]
	delete(h.importNames.given, name)
	switch {
	case x != nil:
	case name == "":
		x = h.mixedHost()
	default:
		h.named++
		x = h.newHost(store.Host{Name: name})
	}
	x.Records += n.Records
	x.Bytes += n.Bytes
	if n.LastMs > x.LastEventMs && !event.IsFarFuture(n.LastMs, now.UnixMilli()) {
		x.LastEventMs = n.LastMs
	}
	return x.info()
}

// importStored tells the importer that its batch is stored. mu is held.
func (h *Head) importStored(batch uint64) {
	if stored := h.imports[batch]; stored != nil {
		close(stored)
		delete(h.imports, batch)
	}
}

// Imports returns the store's half of imports; an error where it takes none.
func (h *Head) Imports() (store.Importer, error) {
	i, err := store.Able[store.Importer](h.place, "import old logs")
	if err != nil {
		return nil, fmt.Errorf("%w: one with a store in its own files can, and is searched beside this one", err)
	}
	return i, nil
}
