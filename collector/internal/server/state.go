package server

import (
	"errors"
	"os"

	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// status says how the collector fares.
func (s *Server) status() *fleet.StatusResponse {
	j, h := s.journal.Stats(), s.head.Stats()
	return &fleet.StatusResponse{
		Version: s.cfg.Version, Pid: uint32(os.Getpid()), StartedMs: s.started.UnixMilli(),
		Store: s.cfg.Store, Listen: addrs(s.Addrs()), Connections: uint64(s.connections()),
		Records: j.Records, Bytes: j.Bytes, Hosts: uint64(h.Hosts), State: s.state(),
		StoreId: storeID(s.store), Batch: h.StoredID,
	}
}

// state is "ok" or why the collector does not do its work at present.
func (s *Server) state() string {
	if !s.ready.Load() {
		return "not accepting connections"
	}
	switch err := s.space.Admit(0); {
	case errors.Is(err, space.ErrFull):
		return "the disk is full: records are refused until there is space again"
	case errors.Is(err, space.ErrSuspended):
		return "storing is suspended: records are refused until it is resumed"
	}
	return s.storage()
}

// storage is "ok", or what fails at storing.
func (s *Server) storage() string {
	switch h := s.head.Stats(); {
	case s.journal.Stats().Failing:
		return "the journal cannot be written: nothing is acknowledged"
	case h.StoreError != nil:
		return "the store takes no events (they are safe in the journal): " + h.StoreError.Error()
	}
	return "ok"
}
