package server

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/ingest"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// reliefTime bounds how long a full disk's watcher waits for the journal to be
// emptied into the store; it tries again.
const reliefTime = 5 * time.Second

// openSpace looks at the disk. The store's folder is there.
func (s *Server) openSpace() {
	free := s.cfg.free
	if free == nil {
		free = func() (free, total uint64, err error) { return fsys.OS.Space(s.cfg.Store) }
	}
	s.space = space.New(space.Config{
		Limits: s.cfg.Space, Space: free, Log: s.cfg.Log.Named("space"),
		Do:         func(a conf.Action, m action.Message) { s.action.Do(a, m) },
		DropOldest: func(ctx context.Context, reason string) (bool, error) { return s.dropOldest(ctx, reason) },
		Relieve:    s.relieve, Excess: s.journalExcess,
		Record: func(op string) { s.own.add("DAEMON_ERR", "op=%s auid=-1 pid=-1 subj=? res=failed", op) },
	})
	st := s.space.Status()
	if admin := st.Limits.AdminSpaceLeft.Of(st.Usage.Total); admin > 0 && admin <= st.Reserve {
		s.cfg.Log.Warn("admin_space_left lies within disk_reserve: records are refused before its action is done",
			"admin_space_left_mib", admin>>20, "disk_reserve_mib", st.Reserve>>20)
	}
}

// relieve has the journal's records put into the store, where they take a
// twentieth of the space.
func (s *Server) relieve(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, reliefTime)
	defer cancel()
	if err := s.head.Flush(ctx); err != nil && ctx.Err() == nil {
		s.cfg.Log.Debug("emptying the journal on a full disk", "error", err)
	}
}

// gate is the journal as sessions see it: it takes nothing while the rest of the
// disk is kept, or while storing is suspended, and it knows the names of addresses.
type gate struct {
	space *space.Watcher
	names *atomic.Pointer[names]
	next  ingest.Journal
}

// Submit implements ingest.Journal.
func (g gate) Submit(ctx context.Context, b *journal.Batch, done func(error)) error {
	err := g.space.Admit(b.Bytes())
	switch {
	case err == nil:
		// A session knows its sender by its address.
		if n := g.names.Load(); n != nil {
			if name := n.of(b.Sender.Addr.Addr()); name != "" && b.Sender.Verified == "" {
				b.Sender.Node = name
			}
		}
		return g.next.Submit(ctx, b, done)
	case errors.Is(err, space.ErrFull):
		return fmt.Errorf("%w: %w", ingest.ErrFull, err)
	}
	return ingest.ErrSuspended
}

// Commit implements ingest.Journal.
func (g gate) Commit() { g.next.Commit() }

// Busy implements ingest.Journal.
func (g gate) Busy() bool { return g.next.Busy() }

// refusing says whether the gate is closed.
func (s *Server) refusing() bool { return s.space.Admit(0) != nil }

// outcome hears from the sessions why records were not stored, and nil when they
// are again. What the gate refused is known here already.
func (s *Server) outcome(err error) {
	if !errors.Is(err, ingest.ErrFull) && !errors.Is(err, ingest.ErrSuspended) && !errors.Is(err, context.Canceled) && !errors.Is(err, journal.ErrClosed) {
		s.space.Outcome(err)
	}
}
