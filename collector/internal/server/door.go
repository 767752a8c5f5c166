package server

import (
	"net/netip"

	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/listen"
)

// What happens at the door is stored as a record of the collector's own, and told to the head,
// whose ledger has it beside the host that it is about. Nothing is accepted before there is a
// head.

// connection says that a connection has begun, was refused or has ended.
func (s *Server) connection(r listen.Report) {
	s.own.Connection(r)
	if r.Op != "" {
		s.head.Refused(r.Peer.Addr(), "", ledger.Refused, 1)
		return
	}
	s.head.Connection(r.Peer, r.Close)
}

// refused says that a peer was refused, or cut off; name is what it has proved to be called.
func (s *Server) refused(peer netip.AddrPort, name, op string) {
	s.own.Refused(peer, name, op)
	s.head.Refused(peer.Addr(), name, ledger.Refused, 1)
}

// recordsRefused says that records of a sender are not stored: it keeps them.
func (s *Server) recordsRefused(from *journal.Sender, records int, v intake.Verdict) {
	cause := ledger.DiskError
	switch v {
	case intake.Full:
		cause = ledger.DiskFull
	case intake.Suspended:
		cause = ledger.Suspended
	}
	s.head.Refused(from.IP(), from.Verified, cause, uint64(records))
}
