package server

import (
	"context"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/collector/internal/store"
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
		DropOldest: s.makeRoom,
		Relieve:    s.relieve,
		// What these need is opened later, and there when they are called.
		Excess: func() uint64 { return s.outgrown.Excess() },
		Lingering: func() uint64 {
			if s.remote() {
				return 0 // and nobody waits for a cluster to know how the disk is
			}
			st, err := s.store.Stats(context.Background())
			if err != nil {
				return 0
			}
			return st.Lingering
		},
		Record: func(op string) { s.own.Failed(op) },
	})
	st := s.space.Status()
	if admin := st.Limits.AdminSpaceLeft.Of(st.Usage.Total); admin > 0 && admin <= st.Reserve {
		s.cfg.Log.Warn("admin_space_left lies within disk_reserve: records are refused before its action is done",
			"admin_space_left_mib", admin>>20, "disk_reserve_mib", st.Reserve>>20)
	}
}

// remote reports whether the events are elsewhere than on the disk.
func (s *Server) remote() bool {
	_, err := store.Able[store.Remote](s.store, "keep events elsewhere")
	return err == nil
}

// makeRoom drops the oldest day for the disk's sake, where it is the disk that has it: a cluster's days, which are other collectors', too, make no
// room here, and all would go.
func (s *Server) makeRoom(ctx context.Context, reason string) (bool, error) {
	if s.remote() {
		return false, nil
	}
	return s.retention.DropOldest(ctx, reason)
}

// relieve has the journal's records put into the store, where they take a
// twentieth of the space, and what a cluster has of them leave the disk.
func (s *Server) relieve(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, reliefTime)
	defer cancel()
	if err := s.head.Flush(ctx); err != nil && ctx.Err() == nil {
		s.cfg.Log.Debug("emptying the journal on a full disk", "error", err)
	}
	if sp, err := store.Able[store.Spooler](s.store, "let events wait"); err == nil {
		sp.GiveRoom()
	}
}

// refusing says whether records of senders are not admitted.
func (s *Server) refusing() bool { return s.space.Admit(0) != nil }
