// Package shaking bounds the handshakes that are under way, which strangers can begin as they
// like: in all, and of one address. Where there are too many the oldest makes room, for a peer
// that means it is done within moments. The transports of ingest with TLS import it; it imports
// nothing of ours.
package shaking

import (
	"container/list"
	"net/netip"
	"sync"
)

// Bound is how many there may be. Its methods may be called at once.
type Bound struct {
	most, perAddr int

	mu  sync.Mutex
	all list.List // guarded by mu: of *Place, the oldest first
}

// Place is that of one handshake.
type Place struct {
	of   *Bound
	addr netip.Addr
	end  func()
	at   *list.Element // guarded by of.mu: nil when it is over, or has given way
}

// New returns a bound of so many in all, and so many of one address.
func New(most, perAddr int) *Bound { return &Bound{most: most, perAddr: perAddr} }

// Enter says that a handshake begins, and has one that is in its way end. free is how many more
// connections there may be: no more handshakes than that have a place, so that strangers never
// take all connections. end is called for this one when it has to give way: within another's
// Enter, so it must neither wait nor call the Bound.
func (b *Bound) Enter(addr netip.Addr, free int, end func()) *Place {
	addr = addr.Unmap()
	b.mu.Lock()
	defer b.mu.Unlock()
	mine, oldest := 0, (*Place)(nil)
	for e := b.all.Front(); e != nil; e = e.Next() {
		if p := e.Value.(*Place); p.addr == addr {
			if mine++; oldest == nil {
				oldest = p
			}
		}
	}
	if mine < b.perAddr {
		oldest = nil
		if n := b.all.Len(); n > 0 && n >= min(b.most, free) {
			oldest = b.all.Front().Value.(*Place)
		}
	}
	if oldest != nil {
		b.all.Remove(oldest.at)
		oldest.at = nil
		oldest.end()
	}
	p := &Place{of: b, addr: addr, end: end}
	p.at = b.all.PushBack(p)
	return p
}

// Leave says that the handshake is over, one way or the other, and reports whether it had its
// place until now. It may be called again.
func (p *Place) Leave() (had bool) {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	if p.at == nil {
		return false
	}
	p.of.all.Remove(p.at)
	p.at = nil
	return true
}

// Len is how many handshakes have their place.
func (b *Bound) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Len()
}
