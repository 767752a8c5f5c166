package listen

import (
	"net"
	"net/netip"

	"github.com/auditfleet/auditfleet/pkg/metrics"
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
	header := l.headers.Enter(tcp, l.limits.MaxConns, l.limits.FrameTimeout)
	l.newcomers.Add(1)
	l.mu.Unlock()
	go func() {
		defer l.newcomers.Done()
		client, err := header.Read(from)
		if err != nil {
			_ = tcp.Close()
			l.mu.Lock()
			ended := l.ended
			l.mu.Unlock()
			if !ended {
				l.refuse(&Conn{l: l, peer: from}, metrics.RefusedProxy, err)
			}
			return
		}
		l.admit(tcp, &Conn{l: l, peer: client, via: from}, handle)
	}()
}
