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
	case head.OtherName:
		log.Warn("a host that has proved its name sends records under another one: they are kept under the proved name, and found by search --mismatch",
			"host", n.Host, "claims", n.Name, "address", n.Addr, "omitted", n.Omitted)
		r.Add("DAEMON_ERR", "op=name-mismatch host=%s claims=%s addr=%s omitted=%d informative=yes res=success", encodeName(n.Host), name, n.Addr, n.Omitted)
	case head.NotYours:
		log.Warn("a sender in clear text uses a name that is verified, or that trusted_senders gives to others: its records are kept under its address, and found by search --mismatch",
			"claims", n.Name, "host", n.Host, "address", n.Addr, "omitted", n.Omitted)
		r.Add("DAEMON_ERR", "op=name-refused host=%s claims=%s addr=%s omitted=%d informative=yes res=success", encodeName(n.Host), name, n.Addr, n.Omitted)
	case head.TooManyNames:
		log.Warn("an address brings more new names than max_new_names a day: records of further ones are stored together, and found by their node",
			"address", n.Addr, "host", n.Name, "omitted", n.Omitted)
		r.Add("DAEMON_ERR", "op=too-many-names host=%s addr=%s omitted=%d informative=yes res=success", name, n.Addr, n.Omitted)
	}
}

// TwoHosts stores that two hosts send at once under a name that both have proved.
func (r *Records) TwoHosts(name string, addr, other netip.Addr) {
	r.Add("DAEMON_ERR", "op=two-hosts host=%s addr=%s old-addr=%s informative=yes res=success", encodeName(name), address(addr), address(other))
}

// address returns an address as a record has it; "?" where there is none, of the collector
// itself.
func address(a netip.Addr) string {
	if !a.IsValid() {
		return "?"
	}
	return a.Unmap().WithZone("").String()
}

// encodeName encodes a name that a peer has chosen as the kernel encodes untrusted strings:
// in quotes, or in hex when it has a quote (of either kind, since ' ends msg='), a space, a control or a non-ASCII character.
func encodeName(s string) string {
	odd := func(r rune) bool { return r <= ' ' || r == '"' || r == '\'' || r > '~' }
	if strings.ContainsFunc(s, odd) {
		return strings.ToUpper(hex.EncodeToString([]byte(s)))
	}
	return `"` + s + `"`
}
