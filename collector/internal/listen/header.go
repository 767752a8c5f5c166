package listen

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/proto/proxy"
)

// A connection from a proxy (Limits.Proxy) begins with a header that says whose it is, and
// without one it is refused: were the header optional, who gets the proxy to pass on bytes of
// his choice, or reaches the port from its address, would decide whether he is the proxy or
// somebody else. From any other address no header is looked for; ingest/remote refuses
// streams that begin with one.
//
// The header is read before anything is counted for the client's address, for only then is
// that known. The proxy's own address is not limited: what is bounded is how many headers are
// waited for, and for how long.

const (
	// headerTime is how long a header may take, from the accepted connection on; a shorter
	// Limits.FrameTimeout holds for it, too. A proxy sends it at once.
	headerTime = 10 * time.Second
	// maxHeaders is how many are waited for, and headerShare the part of Limits.MaxConns that
	// these may be at most. Of more than that, the oldest is ended.
	maxHeaders  = 1024
	headerShare = 8
)

// errCrowded is why the oldest one is ended.
var errCrowded = errors.New("more connections at once are without their PROXY header than may be: the oldest was ended")

// errLate is said of a header that did not come in time.
var errLate = errors.New("its PROXY header did not come in time")

// awaitHeader reads the header of a proxy's connection in a goroutine, and then admits it as
// the one that the header says.
func (l *Listener) awaitHeader(tcp *net.TCPConn, from netip.AddrPort, handle func(*Conn)) {
	l.mu.Lock()
	if l.ended || l.descriptors() >= l.limits.MaxConns {
		l.mu.Unlock()
		_ = tcp.Close()
		l.refuse(&Conn{l: l, peer: from}, metrics.RefusedLimit, nil)
		return
	}
	// Errors of deadlines are those of a connection that is over: reading says so.
	_ = tcp.SetReadDeadline(time.Now().Add(min(headerTime, l.limits.FrameTimeout)))
	at := l.headers.PushBack(tcp)
	if l.headers.Len() > min(maxHeaders, max(1, l.limits.MaxConns/headerShare)) {
		oldest := l.headers.Front()
		_ = l.headers.Remove(oldest).(*net.TCPConn).SetReadDeadline(time.Unix(1, 0))
		oldest.Value = nil
	}
	l.newcomers.Add(1)
	l.mu.Unlock()
	go func() {
		defer l.newcomers.Done()
		h, err := proxy.Read(tcp)
		l.mu.Lock()
		crowded, ended := at.Value == nil, l.ended
		if !crowded {
			l.headers.Remove(at)
		}
		l.mu.Unlock()
		switch {
		case crowded:
			err = errCrowded
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = errLate
		}
		if err != nil {
			_ = tcp.Close()
			if !ended {
				l.refuse(&Conn{l: l, peer: from}, metrics.RefusedProxy, err)
			}
			return
		}
		_ = tcp.SetReadDeadline(time.Time{})
		l.admit(tcp, &Conn{l: l, peer: clientOf(h, from), via: from}, handle)
	}()
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

// endHeaders ends the connections whose headers are waited for. ended is true.
func (l *Listener) endHeaders() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := l.headers.Front(); at != nil; at = at.Next() {
		_ = at.Value.(*net.TCPConn).SetReadDeadline(time.Unix(1, 0))
	}
}
