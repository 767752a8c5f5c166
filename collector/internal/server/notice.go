package server

import (
	"encoding/hex"
	"net/netip"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/head"
)

// notice warns of what is odd about a name and stores it as a record of our own. It
// is called with the head's lock held.
func (s *Server) notice(n head.Notice) {
	log := s.cfg.Log.Named("head")
	o := s.own
	if o == nil || o.refusing() {
		return
	}
	name, was := encodeName(n.Name), ownAddr(n.Was)
	switch n.Kind {
	case head.NewAddress:
		log.Warn("a host's name comes from an address that it did not come from before", "host", n.Name, "address", n.Addr, "before", was, "omitted", n.Omitted)
		o.add("DAEMON_ERR", "op=new-address host=%s addr=%s old-addr=%s omitted=%d informative=yes res=success", name, n.Addr, was, n.Omitted)
	case head.ByTurns:
		log.Warn("a host's name comes from two addresses by turns: two hosts have it, or one of them lies", "host", n.Name, "address", n.Addr, "before", was, "omitted", n.Omitted)
		o.add("DAEMON_ERR", "op=two-addresses host=%s addr=%s old-addr=%s omitted=%d informative=yes res=success", name, n.Addr, was, n.Omitted)
	case head.TooManyNames:
		log.Warn("an address brings more new names than max_new_names a day: records of further ones are stored together, and found by their node",
			"address", n.Addr, "host", n.Name, "omitted", n.Omitted)
		o.add("DAEMON_ERR", "op=too-many-names host=%s addr=%s omitted=%d informative=yes res=success", name, n.Addr, n.Omitted)
	}
}

// ownAddr is an address in a record; "?" stands for the collector itself.
func ownAddr(a netip.Addr) string {
	if !a.IsValid() {
		return "?"
	}
	return a.String()
}

// encodeName writes what a peer said as the kernel writes what a program could
// choose: quoted, or in hex when that would not do.
func encodeName(s string) string {
	odd := func(r rune) bool { return r <= ' ' || r == '"' || r > '~' }
	if strings.ContainsFunc(s, odd) {
		return strings.ToUpper(hex.EncodeToString([]byte(s)))
	}
	return `"` + s + `"`
}
