// Package proxied reads the PROXY headers with which the connections of proxies begin, a bounded
// number at once and each in a bounded time. The parts that accept connections import it, listen
// and ingest/grpc; it imports proto/proxy only.
package proxied

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/proto/proxy"
)

const (
	// Within is how long a header may take at most, from the accepted connection on. A proxy
	// sends it at once.
	Within = 10 * time.Second
	// most is how many are waited for, and share the part of all connections that these may be
	// at most. Of more than that, the oldest is ended.
	most  = 1024
	share = 8
)

// ErrCrowded is why the oldest one is ended.
var ErrCrowded = errors.New("more connections at once are without their PROXY header than may be: the oldest was ended")

// ErrLate is said of a header that did not come in time.
var ErrLate = errors.New("its PROXY header did not come in time")

// Headers are those that are waited for. Its methods may be called at once; they do not wait,
// and call nothing that may.
type Headers struct {
	mu  sync.Mutex
	all list.List // guarded by mu: of net.Conn, the oldest first
}

// Waiting is a connection whose header is waited for.
type Waiting struct {
	of   *Headers
	conn net.Conn
	at   *list.Element // its Value is nil, by of.mu, once it was ended to make room
}

// Enter gives a new connection a place among those whose header is waited for, so long at most
// and no longer than Within. conns is how many connections there may be in all.
func (h *Headers) Enter(conn net.Conn, conns int, within time.Duration) *Waiting {
	// Errors of deadlines are those of a connection that is over: reading says so.
	_ = conn.SetReadDeadline(time.Now().Add(min(Within, within)))
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.all.PushBack(conn)
	if h.all.Len() > min(most, max(1, conns/share)) {
		oldest := h.all.Front()
		_ = h.all.Remove(oldest).(net.Conn).SetReadDeadline(time.Unix(1, 0))
		oldest.Value = nil
	}
	return &Waiting{of: h, conn: conn, at: at}
}

// Read reads the header and returns whose connection it is: from, the proxy, where the header
// names nobody. The place is free then, and reading has no deadline. No byte behind the header
// is taken. An error says what was wrong; the connection is the caller's to close.
func (w *Waiting) Read(from netip.AddrPort) (netip.AddrPort, error) {
	header, err := proxy.Read(w.conn)
	w.of.mu.Lock()
	crowded := w.at.Value == nil
	if !crowded {
		w.of.all.Remove(w.at)
	}
	w.of.mu.Unlock()
	switch {
	case crowded:
		return from, ErrCrowded
	case errors.Is(err, os.ErrDeadlineExceeded):
		return from, ErrLate
	case err != nil:
		return from, err
	}
	return clientOf(header, from), w.conn.SetReadDeadline(time.Time{})
}

// Len is how many are waited for.
func (h *Headers) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all.Len()
}

// End has all that are waited for be over.
func (h *Headers) End() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for at := h.all.Front(); at != nil; at = at.Next() {
		_ = at.Value.(net.Conn).SetReadDeadline(time.Unix(1, 0))
	}
}

// clientOf is whose connection it is. The address has the form that a direct connection's
// would have on the same socket: one sender has one address.
func clientOf(h proxy.Header, from netip.AddrPort) netip.AddrPort {
	addr := h.Source.Addr()
	switch {
	case h.Local:
		return from
	case addr.Is4() && !from.Addr().Is4():
		addr = netip.AddrFrom16(addr.As16())
	}
	return netip.AddrPortFrom(addr, h.Source.Port())
}
