package head

import (
	"net/netip"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// strangers is the host of senders that may not use the names which they claim, and for
// which there is no host of their address: more than MaxHosts of them. It is none that
// node= can name, for it has spaces.
const strangers = "(names of others)"

// SetMayName replaces Options.MayName, for records from now on.
func (h *Head) SetMayName(f func(name string, addr netip.Addr) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opts.MayName = f
	h.trustedHost = nil
}

// verifiedHost is the host of a name that the batch's sender has proved. Only a certificate or key makes
// one, so they are not bounded. mu is held.
func (h *Head) verifiedHost(b *journal.Batch) *host {
	x := h.hosts[b.Sender.Verified]
	if x == nil || x.Verified.IsZero() {
		h.proved.add(b.Sender.Verified)
	}
	switch {
	case x == nil:
		x = h.newHost(store.Host{Name: b.Sender.Verified})
	case !x.Verified.IsZero():
		return x
	case x.sender: // counted as one that others have made up until now
		h.unnamed--
		x.sender = false
	default:
		h.named--
	}
	x.Verified = b.Received // from here on nobody else may use the name
	return x
}

// provedNames are those that were ever proved, as FoldName has them: who proves nothing can't
// use one in capitals either. Head.mu guards it.
type provedNames struct {
	names map[string]int // how many hosts' names fold to each
	state uint64         // of names; from 1 on, so that no host was compared with it
}

func (p *provedNames) add(name string) {
	if p.names == nil {
		p.names = map[string]int{}
	}
	p.names[event.FoldName(name)]++
	p.state++
}

func (p *provedNames) remove(name string) {
	name = event.FoldName(name)
	if p.names[name]--; p.names[name] <= 0 {
		delete(p.names, name)
	}
	p.state++
}

// has says whether the name of x was proved, or, where that is nil, name.
func (p *provedNames) has(x *host, name []byte) bool {
	switch {
	case p.names == nil:
		return false // nearly every record of those that prove nothing
	case x == nil:
		return p.names[event.FoldName(string(name))] > 0
	case x.compared != p.state:
		x.compared, x.taken = p.state, p.names[event.FoldName(x.Name)] > 0
	}
	return x.taken
}

// isOwn reports whether the name of x, or, where that is nil, name, is the collector's own.
func (h *Head) isOwn(x *host, name []byte) bool {
	if x != nil {
		return x.own
	}
	return h.opts.OwnName != "" && event.SameName(name, []byte(h.opts.OwnName))
}

// mayName says whether a sender in clear text may use a name, which x has if that is not nil.
// The collector itself may. mu is held.
func (h *Head) mayName(x *host, name []byte, b *journal.Batch) bool {
	proved := h.proved.has(x, name)
	if !proved && h.opts.MayName == nil && !h.isOwn(x, name) {
		return true // nearly every record
	}
	addr := b.Sender.IP()
	switch {
	case !addr.IsValid():
		return true
	case proved:
		return false
	case x != nil && x == h.trustedHost && addr == h.trustedAddr:
		return true
	}
	var ok bool
	if h.opts.MayName != nil {
		ok = h.opts.MayName(string(name), addr)
	} else {
		ok = h.opts.OwnAddr(addr)
	}
	if ok && x != nil {
		h.trustedHost, h.trustedAddr = x, addr // a sender's next record is the same
	}
	return ok
}

// strangerHost is the host of a sender's address, whatever it claims. mu is held.
func (h *Head) strangerHost(b *journal.Batch) *host {
	name := b.Sender.IP().String()
	x := h.hosts[name]
	if x == nil {
		x = h.addSender(name)
	}
	if x != h.mixed && !h.proved.has(x, x.raw) {
		return x
	}
	// Among hosts that are told apart by their node= the claim would count.
	if x = h.hosts[strangers]; x == nil {
		x = h.newHost(store.Host{Name: strangers})
		x.sender = true
		h.unnamed++
	}
	return x
}

// mismatched counts a record that claims to be another host's than x, and says so once an
// hour. mu is held.
func (h *Head) mismatched(x *host, claimed []byte, b *journal.Batch) {
	x.Mismatched++
	h.stats.Mismatched++
	if h.replaying || !x.claimed.IsZero() && b.Received.Sub(x.claimed) < noticeEvery && !b.Received.Before(x.claimed) {
		return
	}
	x.claimed = b.Received
	n := Notice{Kind: NotYours, Name: clip(string(claimed)), Host: x.Name, Addr: b.Sender.IP()}
	if b.Sender.Verified != "" {
		n.Kind = OtherName
	}
	h.notice(n, b.Received)
}
