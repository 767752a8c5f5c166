package selfaudit

import (
	"encoding/hex"
	"net/netip"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/head"
)

// Notice logs and stores what the head has noticed about a host's name. It is the head's
// OnNotice, and is called with the head's lock held: it must call nothing of the head's.
func (r *Records) Notice(n head.Notice) {
	if r.cfg.Refusing() {
		return
	}
	log := r.cfg.Log.Named("head")
	name, was := encodeName(n.Name), address(n.Was)
	switch n.Kind {
	case head.NewAddress:
		log.Warn("a host's name comes from an address that it did not come from before", "host", n.Name, "address", n.Addr, "before", was, "omitted", n.Omitted)
		r.Add("DAEMON_ERR", "op=new-address host=%s addr=%s old-addr=%s omitted=%d informative=yes res=success", name, n.Addr, was, n.Omitted)
	case head.ByTurns:
		log.Warn("a host's name comes from two addresses by turns: two hosts have it, or one of them lies", "host", n.Name, "address", n.Addr, "before", was, "omitted", n.Omitted)
		r.Add("DAEMON_ERR", "op=two-addresses host=%s addr=%s old-addr=%s omitted=%d informative=yes res=success", name, n.Addr, was, n.Omitted)
	case head.TooManyNames:
		log.Warn("an address brings more new names than max_new_names a day: records of further ones are stored together, and found by their node",
			"address", n.Addr, "host", n.Name, "omitted", n.Omitted)
		r.Add("DAEMON_ERR", "op=too-many-names host=%s addr=%s omitted=%d informative=yes res=success", name, n.Addr, n.Omitted)
	}
}

// address returns an address as a record has it; "?" where there is none, of the collector
// itself.
func address(a netip.Addr) string {
	if !a.IsValid() {
		return "?"
	}
	return a.String()
}

// encodeName encodes a name that a peer has chosen as the kernel encodes untrusted strings:
// in quotes, or in hex when it has a quote, a space, a control or a non-ASCII character.
func encodeName(s string) string {
	odd := func(r rune) bool { return r <= ' ' || r == '"' || r > '~' }
	if strings.ContainsFunc(s, odd) {
		return strings.ToUpper(hex.EncodeToString([]byte(s)))
	}
	return `"` + s + `"`
}
