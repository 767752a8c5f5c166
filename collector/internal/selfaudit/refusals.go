package selfaudit

import (
	"net/netip"

	"github.com/auditfleet/auditfleet/collector/internal/listen"
)

// Connection stores that a connection has begun, was refused or has ended. While senders'
// records are refused it only counts.
func (r *Records) Connection(c listen.Report) {
	if c.Op != "" {
		r.Refused(c.Peer, "", c.Op)
		return
	}
	typ := "DAEMON_ACCEPT"
	if c.Close {
		typ = "DAEMON_CLOSE"
	}
	r.stranger(r.connections, typ, c.Peer, "addr=%s port=%d res=success", address(c.Peer.Addr()), c.Peer.Port())
}

// Refused stores that a peer was refused, or cut off, and for what reason; name is what it
// has proved to be called, "" where it has proved nothing.
func (r *Records) Refused(peer netip.AddrPort, name, op string) {
	if name != "" {
		name = " acct=" + encodeName(name)
	}
	r.stranger(r.refusals, "DAEMON_ACCEPT", peer, "op=%s%s addr=%s port=%d res=no", op, name, address(peer.Addr()), peer.Port())
}
