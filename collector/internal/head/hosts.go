package head

import (
	"net/netip"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// maxName is the longest host name told apart from others; DNS has no longer one.
const maxName = 255

// host is one machine: its events being put together and what is known of it.
type host struct {
	store.Host // guarded by Head.mu; Addrs is replaced, never changed
	asm        *event.Assembler
	raw        []byte // Name
	dirty      bool
	open       int    // bytes of open events when last counted
	evicted    uint64 // by the assembler, when last counted
}

func (x *host) info() store.Host { return x.Host }

// newHost adds a host; h.mu is held or nobody else knows h yet.
func (h *Head) newHost(info store.Host) *host {
	x := &host{Host: info, raw: []byte(info.Name)}
	x.asm = event.NewAssembler(event.Config{Timeout: h.opts.EventTimeout, MaxEvents: h.opts.MaxOpenEventsHost, MaxBytes: h.opts.MaxOpenBytesHost, Pool: &h.events},
		func(ev *event.Event) { h.complete(x, ev) })
	if info.Name == "" {
		h.mixed = x
	}
	h.hosts[info.Name] = x
	return x
}

// complete takes an event that the assembler has finished.
func (h *Head) complete(x *host, ev *event.Event) {
	h.active.table.Add(x.Name, ev)
	h.stats.Events++
	if ev.Ms > x.LastEventMs {
		x.LastEventMs = ev.Ms
		h.touch(x) // the records may have been counted, and stored, in an earlier table
	}
	if h.opts.OnEvent != nil && !h.replaying {
		h.opts.OnEvent(x.Name, ev)
	}
	if len(h.followers) > 0 && !h.replaying {
		h.publish(x.Name, ev)
	}
	h.events.Put(ev)
}

// hostOf finds the host of a record: node=, else what the ingest knows, else
// the sender's address.
func (h *Head) hostOf(node []byte, b *journal.Batch) *host {
	if len(node) > 0 {
		if h.last != nil && string(node) == h.last.Name {
			return h.last
		}
		x := h.hosts[string(node)]
		if x == nil {
			x = h.meet(string(node))
		}
		h.last = x
		return x
	}
	name := b.Host
	if name == "" && b.Peer.IsValid() {
		name = b.Peer.Addr().Unmap().WithZone("").String()
	}
	if x := h.hosts[name]; x != nil {
		return x
	}
	return h.meet(name)
}

func (h *Head) meet(name string) *host {
	long := len(name) > maxName
	if !long && len(h.hosts) < h.opts.MaxHosts {
		return h.newHost(store.Host{Name: name})
	}
	if h.mixed == nil {
		h.newHost(store.Host{})
	}
	switch { // each once a run; the records are counted
	case long && !h.saidLong:
		h.saidLong = true
		h.opts.Logger.Warn("a host's name is too long to tell it apart; records of such hosts are stored together", "bytes", len(name), "most", maxName, "name", clip(name))
	case !long && !h.saidFull:
		h.saidFull = true
		h.opts.Logger.Warn("no more hosts are told apart; records of others are stored together: raise max_hosts", "hosts", len(h.hosts), "name", name)
	}
	return h.mixed
}

func clip(s string) string {
	if len(s) > maxName {
		return s[:maxName]
	}
	return s
}

// seen counts what came from a host.
func (h *Head) seen(x *host, b *journal.Batch, records, size, unparsable, dups uint64) {
	if x == h.mixed {
		h.stats.Mixed += records
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
	if b.Peer.IsValid() {
		addr := b.Peer.Addr().Unmap().WithZone("")
		if len(x.Addrs) == 0 || x.Addrs[0] != addr {
			x.Addrs = latest(x.Addrs, addr)
		}
	}
	h.touch(x)
}

// touch has the host stored with the present table.
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

// tick ends the events of hosts that fell silent.
func (h *Head) tick(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for x := range h.openHosts {
		x.asm.Tick(now)
		h.recount(x)
	}
	h.stats.OpenBytes = h.openBytes
	h.stats.OpenEvents = 0
	for x := range h.openHosts {
		h.stats.OpenEvents += x.asm.Len()
	}
}

// recount keeps the sum of open bytes, the set of hosts that have some, and what
// was ended early.
func (h *Head) recount(x *host) {
	if n := x.asm.Stats().Evicted; n != x.evicted {
		h.stats.Evicted += n - x.evicted
		x.evicted = n
	}
	n := x.asm.Bytes()
	h.openBytes += n - x.open
	x.open = n
	if x.asm.Len() > 0 {
		h.openHosts[x] = struct{}{}
	} else {
		delete(h.openHosts, x)
	}
}

// relieve ends the open events of the hosts with the most of them until all
// together are within bounds again.
func (h *Head) relieve() {
	for h.openBytes > h.opts.MaxOpenBytes {
		var most *host
		for x := range h.openHosts {
			if most == nil || x.open > most.open {
				most = x
			}
		}
		if most == nil {
			return
		}
		h.stats.Evicted += uint64(most.asm.Len())
		most.asm.Flush()
		h.recount(most)
	}
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
