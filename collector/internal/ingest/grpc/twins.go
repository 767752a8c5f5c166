package grpc

import (
	"net/netip"
	"time"
)

// Twins. A certificate belongs to one host. Two that send with the same one at once, such as a machine and
// a copy of its image, would look like one host for ever: nothing of them is lost, but nobody
// could say whose a record is. So it is said.
//
// A host that comes back, after a reboot or from another address, leaves a connection behind
// that is silent. Only where the older one goes on, too, or takes its stream back, are there two.
//
// Copies of a machine that was copied while it ran have the same stream, too, until the forwarder
// of one is started again. Of records that both have numbered alike only one's are stored.

// twinEvery bounds how often that is said of a name.
const twinEvery = time.Hour

// compareTwins is called when a session is opened by a host of that boot. mu is held.
func (s *Server) compareTwins(c *session, boot string) {
	c.boot = boot
	for _, other := range s.names[c.id.Name] {
		if other != c && apart(other, c) {
			addr := c.conn.peer.Addr()
			other.twin.Store(&addr)
		}
	}
}

// apart says that two sessions of one name are of two hosts, or of one that came back: of
// two boots, or of two addresses of one family. mu is held.
func apart(a, b *session) bool {
	if a.boot == "" || b.boot == "" {
		return false
	}
	x, y := a.conn.peer.Addr(), b.conn.peer.Addr()
	return a.boot != b.boot || x != y && x.Is4() == y.Is4()
}

// byTurns is called when a session takes a stream from an older one, and says whether they have
// it from two addresses by turns. mu is held.
func byTurns(old, c *session) bool {
	c.before = old.conn.peer.Addr()
	return old.before == c.conn.peer.Addr() && old.before != c.before
}

const (
	twinStreams  = "two hosts send under one name at once, so they have the same certificate (a copied machine?): nothing is lost, but their records can't be told apart; issue a certificate of its own to one of them and revoke this one"
	sharedStream = "two hosts send under one name and one stream by turns, so one is a copy of the other, made while it ran: of records that both number alike only one's are stored; start the forwarder of each again, and issue a certificate of its own to one of them"
)

// goesOn is called when a session sends something, after another one was opened that may be
// of another host, or takes its stream back from that; text says what this is.
func (s *Server) goesOn(c *session, twin netip.Addr, text string) {
	now := s.cfg.Now()
	s.mu.Lock()
	last, known := s.told[c.id.Name]
	tell := !known || now.Sub(last) >= twinEvery || now.Before(last)
	if tell {
		for name, at := range s.told {
			if now.Sub(at) >= twinEvery {
				delete(s.told, name)
			}
		}
		s.told[c.id.Name] = now
	}
	s.mu.Unlock()
	s.cfg.Metrics.Twins.Inc()
	if !tell {
		return
	}
	s.cfg.Log.Warn(text, "name", c.id.Name, "address", twin.String(), "other", c.conn.peer.Addr().String())
	s.report(Report{Op: OpTwins, Peer: netip.AddrPortFrom(twin, 0), Name: c.id.Name, Other: c.conn.peer.Addr()})
}
