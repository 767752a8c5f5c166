package head

import (
	"net/netip"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// maxName is the longest host name told apart from others.
const maxName = store.MaxName

// host is one machine by its name: the streams of those who send under it, and
// what is known of it.
type host struct {
	store.Host        // guarded by Head.mu; Addrs is replaced, never changed
	stored     uint64 // of Records, those in stored batches
	first      *stream
	more       map[streamKey]*stream // those with open events, beside first
	raw        []byte                // Name
	dirty      bool
	conn       netip.AddrPort // by which its latest records came; not valid: it is over, or the collector was started again
	ledger     *ledger.Host   // nil: nothing came since hosts have one
	entered    bool
	own        bool      // it has the collector's own name
	sender     bool      // it is counted with those that go by their sender's address or name
	claimed    time.Time // when it was last said that it claims another's name
	compared   uint64    // the provedNames.state for which taken holds
	taken      bool      // its name was proved, by itself or by another one that differs in case
	turned     time.Time // when it was last said that it comes from two addresses
	moved      time.Time // when records came from another address than before
	turns      int       // how often they did by turns, each soon after the one before
	twins      uint64    // signs that two hosts have its name, since the start
}

func (x *host) info() store.Host { return x.Host }

// newHost adds a host; h.mu is held or nobody else knows h yet.
func (h *Head) newHost(info store.Host) *host {
	x := &host{Host: info, stored: info.Records, raw: []byte(info.Name)}
	x.own = h.isOwn(nil, x.raw)
	if info.Name == "" {
		h.mixed = x
	}
	h.hosts[info.Name] = x
	return x
}

// addKnown adds a host that the store knows.
func (h *Head) addKnown(info store.Host) {
	if !info.Last.IsZero() && event.IsFarFuture(info.LastEventMs, info.Last.UnixMilli()) {
		info.LastEventMs = 0 // of a version that believed any time
	}
	x := h.newHost(info)
	addr, err := netip.ParseAddr(info.Name)
	if !info.Verified.IsZero() {
		h.proved.add(info.Name)
		return
	}
	// A name that is an address, and came from others only, was invented.
	x.sender = err == nil && (len(info.Addrs) == 0 || slices.Contains(info.Addrs, addr))
	switch {
	case x.sender:
		h.unnamed++
	case info.Name != "":
		h.named++
	}
}

// hostOf finds the host of a record: the name that its sender has proved, else node= where
// the sender may use that name, else the name that the sender goes by. mu is held.
func (h *Head) hostOf(node []byte, b *journal.Batch) *host {
	if b.Sender.Verified != "" {
		return h.verifiedHost(b)
	}
	if len(node) > 0 {
		x := h.lastHost
		if x == nil || string(node) != x.Name {
			x = h.hosts[string(node)]
		}
		switch {
		case !h.mayName(x, node, b):
			return h.strangerHost(b)
		case x == nil:
			x = h.addNamed(string(node), b)
		}
		h.lastHost = x
		return x
	}
	name := b.Sender.Name()
	if addr := b.Sender.IP(); name == "" && addr.IsValid() {
		name = addr.String()
	}
	x := h.hosts[name]
	switch {
	case b.Sender.Addr.IsValid() && (x != nil && h.proved.has(x, nil) || x == nil && h.proved.has(nil, []byte(name))): // no allocation where it has a host
		return h.strangerHost(b) // the hosts file gives it a name that now is proved
	case x == nil:
		return h.addSender(name)
	}
	return x
}

// addNamed adds a host that a record names. Such names cost their inventor nothing, so
// they are bounded apart from those of senders.
func (h *Head) addNamed(name string, b *journal.Batch) *host {
	switch long := len(name) > maxName; {
	case !long && h.named < h.opts.MaxHosts:
		if ok, tell := h.newcomers.admit(b.Sender.IP(), b.Received, h.opts.MaxHosts); !ok {
			h.stats.NamesRefused++
			if tell {
				h.notice(Notice{Kind: TooManyNames, Name: name, Addr: b.Sender.IP()}, b.Received)
			}
			break
		}
		h.named++
		return h.newHost(store.Host{Name: name})
	case long && !h.loggedLong: // each once a run; the records are counted
		h.loggedLong = true
		h.opts.Logger.Warn("a host's name is too long to tell it apart; records of such hosts are stored together", "bytes", len(name), "most", maxName, "name", clip(name))
	case !long && !h.loggedFull:
		h.loggedFull = true
		h.opts.Logger.Warn("no more hosts are told apart; records of others are stored together: raise max_hosts", "hosts", len(h.hosts), "name", name)
	}
	return h.mixedHost()
}

// addSender adds a sender whose records name no host, under its address or its
// name in the hosts file. As many as MaxHosts have a place of their own.
func (h *Head) addSender(name string) *host {
	if name == "" || len(name) > maxName || h.unnamed >= h.opts.MaxHosts {
		return h.mixedHost()
	}
	h.unnamed++
	x := h.newHost(store.Host{Name: name})
	x.sender = true
	return x
}

// mixedHost is the host "" of all that have no place of their own.
func (h *Head) mixedHost() *host {
	if h.mixed == nil {
		h.newHost(store.Host{})
	}
	return h.mixed
}

// clip cuts a name to what is kept of one.
func clip(s string) string {
	if len(s) > maxName {
		return s[:maxName]
	}
	return s
}

// countRecords counts what came from a host, and remembers from which address. mu is
// held.
func (h *Head) countRecords(x *host, b *journal.Batch, records, size, unparsable, dups uint64) {
	if x == h.mixed {
		h.stats.Mixed += records
	}
	if b.Sender.Verified != "" && b.Received.After(x.Verified) {
		x.Verified = b.Received
	}
	if addr := b.Sender.IP(); addr.IsValid() && (len(x.Addrs) == 0 || x.Addrs[0] != addr) {
		h.checkAddress(x, b, addr)
		x.Addrs = latest(x.Addrs, addr)
	}
	if peer := b.Sender.Addr; peer.IsValid() && x.conn != peer {
		h.heardBy(x, peer, b.Received)
	}
	if dups > 0 && x != h.mixed {
		at := b.Received.UnixMilli()
		h.entries(x).Happened(ledger.Resent, at, at, dups)
	}
	x.Records += records
	x.Bytes += size
	x.Unparsable += unparsable
	x.Duplicates += dups
	if x.First.IsZero() {
		x.First = b.Received
	}
	if b.Received.After(x.Last) {
		x.Last = b.Received
	}
	h.touch(x)
}

// touch has the host stored with the present table. mu is held.
func (h *Head) touch(x *host) {
	if !x.dirty {
		x.dirty = true
		h.dirty = append(h.dirty, x)
	}
}

// latest is a new list with addr first.
func latest(addrs []netip.Addr, addr netip.Addr) []netip.Addr {
	out := append(make([]netip.Addr, 0, store.MaxAddrs), addr)
	for _, a := range addrs {
		if a != addr && len(out) < store.MaxAddrs {
			out = append(out, a)
		}
	}
	return out
}

// Also returns, by host, the one that its records count as, too (store.Host.Also).
func (h *Head) Also() map[string]string {
	out := map[string]string{}
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, x := range h.hosts {
		if x.Also != "" {
			out[x.Name] = x.Also
		}
	}
	return out
}

// Hosts returns what is known of each host now, by name.
func (h *Head) Hosts() []store.Host {
	h.mu.RLock()
	out := make([]store.Host, 0, len(h.hosts))
	for _, x := range h.hosts {
		out = append(out, x.info())
	}
	h.mu.RUnlock()
	slices.SortFunc(out, func(a, b store.Host) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}
