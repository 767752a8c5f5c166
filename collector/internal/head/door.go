package head

import (
	"net/netip"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// maxAtDoor bounds what the door keeps of each kind. Beyond it what is kept is given to its hosts
// at once where the head is not at work, and else what comes is left out.
const maxAtDoor = 16384

// sweepEvery is how often what the door keeps is given to the hosts: what is said of connections
// is by the minute, and costs a look at all hosts.
const sweepEvery = time.Minute

// door keeps what transports say of connections until the head gives it to the hosts that it is
// about. Transports must not wait for the head, which may be at work on a batch.
type door struct {
	mu      sync.Mutex
	ended   map[netip.AddrPort]int64 // when, in milliseconds
	begun   map[netip.Addr]begun     // the latest connection of an address
	refused map[refusal]refusals
}

type begun struct {
	peer netip.AddrPort
	at   int64
}

// refusal is what was refused, and to whom: by the name that was proved, else by address.
type refusal struct {
	name  string
	addr  netip.Addr
	cause ledger.Cause
}

type refusals struct {
	first, last int64
	n           uint64
}

// Connection says that a sender's connection has begun or ended. Any goroutine may call it, and
// it returns at once.
func (h *Head) Connection(peer netip.AddrPort, ended bool) {
	now := h.opts.Now().UnixMilli()
	d := &h.door
	defer h.emptyDoor()
	d.mu.Lock()
	defer d.mu.Unlock()
	if ended {
		if d.ended == nil {
			d.ended = map[netip.AddrPort]int64{}
		}
		if len(d.ended) < maxAtDoor {
			d.ended[peer] = now
		}
		return
	}
	delete(d.ended, peer) // the port is used again
	if d.begun == nil {
		d.begun = map[netip.Addr]begun{}
	}
	if len(d.begun) < maxAtDoor {
		d.begun[event.SenderAddr(peer.Addr())] = begun{peer, now}
	}
}

// Refused says that a connection (ledger.Refused), or n records of one, were refused; name is
// what the peer has proved to be called, "" where it has proved nothing. Any goroutine may
// call it, and it returns at once.
func (h *Head) Refused(addr netip.Addr, name string, cause ledger.Cause, n uint64) {
	now := h.opts.Now().UnixMilli()
	k := refusal{name: clip(name), cause: cause}
	if name == "" {
		k.addr = event.SenderAddr(addr)
	}
	d := &h.door
	defer h.emptyDoor()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refused == nil {
		d.refused = map[refusal]refusals{}
	}
	x, there := d.refused[k]
	switch {
	case !there && len(d.refused) >= maxAtDoor:
		return
	case !there:
		x.first = now
	}
	x.last, x.n = now, ledger.AddUp(x.n, n)
	d.refused[k] = x
}

// emptyDoor sweeps where the door is full.
func (h *Head) emptyDoor() {
	d := &h.door
	d.mu.Lock()
	full := max(len(d.ended), len(d.begun), len(d.refused)) >= maxAtDoor
	d.mu.Unlock()
	if full && h.mu.TryLock() {
		defer h.mu.Unlock()
		h.sweep(h.opts.Now())
	}
}

// take returns what the door keeps, and empties it.
func (d *door) take() (ended map[netip.AddrPort]int64, opened map[netip.Addr]begun, refused map[refusal]refusals) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ended, opened, refused = d.ended, d.begun, d.refused
	d.ended, d.begun, d.refused = nil, nil, nil
	return ended, opened, refused
}

// sweep gives the hosts what the door keeps. h.mu is held.
func (h *Head) sweep(now time.Time) {
	h.swept = now
	ended, opened, refused := h.door.take()
	if len(ended)+len(opened)+len(refused) == 0 {
		return
	}
	of := map[netip.Addr]int{} // how many hosts an address has that is one of opened
	for _, x := range h.hosts {
		if len(opened) > 0 && len(x.Addrs) > 0 {
			of[x.Addrs[0]]++
		}
	}
	for _, x := range h.hosts {
		if x == h.mixed {
			continue
		}
		if at, gone := ended[x.conn]; gone {
			h.entries(x).Disconnected(at)
			x.conn, h.changed = netip.AddrPort{}, true
		}
		if len(x.Addrs) == 0 {
			continue
		}
		addr := x.Addrs[0]
		// Which of several hosts behind one address it is, its records will say.
		if to, ok := opened[addr]; ok && of[addr] == 1 && x.conn != to.peer {
			h.entries(x).Connected(to.at)
			x.conn, h.changed = to.peer, true
			if at, gone := ended[to.peer]; gone && at >= to.at {
				h.entries(x).Disconnected(at)
				x.conn = netip.AddrPort{}
			}
		}
		for c := ledger.Refused; c <= ledger.DiskError && len(refused) > 0; c++ {
			for _, k := range [2]refusal{{name: x.Name, cause: c}, {addr: addr, cause: c}} {
				if r, ok := refused[k]; ok {
					h.entries(x).Happened(c, r.first, r.last, r.n)
					h.changed = true
				}
			}
		}
	}
}

// heardBy notes by which connection a host's records come. mu is held.
func (h *Head) heardBy(x *host, peer netip.AddrPort, received time.Time) {
	if h.replaying || x == h.mixed {
		return // of connections that are over
	}
	at := received.UnixMilli()
	if x.conn.IsValid() {
		h.door.mu.Lock()
		gone, ended := h.door.ended[x.conn]
		h.door.mu.Unlock()
		if ended {
			h.entries(x).Disconnected(gone)
		}
	}
	h.entries(x).Connected(at)
	x.conn = peer
}
