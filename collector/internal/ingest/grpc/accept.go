package grpc

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/proxied"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// listener accepts connections within the limits. What is refused, or closed to make room,
// has cost nothing but the accepting. A proxy's connections (Limits.Proxy) begin with a header
// that says whose they are; they are counted, and are gRPC's, once it was read.
type listener struct {
	net.Listener
	all     *Server
	headers proxied.Headers
	arrived chan arrival // what accept and those that read headers hand to Accept

	begin, end sync.Once
	ended      chan struct{} // closed by Close
	working    sync.WaitGroup
}

// arrival is a connection and whose it is, or why none could be accepted.
type arrival struct {
	raw  net.Conn
	peer netip.AddrPort
	err  error
}

func newListener(ln net.Listener, s *Server) *listener {
	return &listener{Listener: ln, all: s, arrived: make(chan arrival), ended: make(chan struct{})}
}

// Accept implements net.Listener: it returns the next connection that is within the limits.
func (l *listener) Accept() (net.Conn, error) {
	l.begin.Do(func() { l.working.Go(l.accept) })
	for {
		var a arrival
		select {
		case a = <-l.arrived:
		case <-l.ended:
			a.err = net.ErrClosed
		}
		if a.err != nil {
			if !errors.Is(a.err, net.ErrClosed) {
				l.all.cfg.Metrics.Errors.Inc()
			}
			return nil, a.err // gRPC tries again after a pause where that helps
		}
		c := &conn{Conn: a.raw, all: l.all, peer: netip.AddrPortFrom(a.peer.Addr().Unmap(), a.peer.Port()), since: time.Now()}
		if reason := l.all.limit.add(c); reason != "" {
			l.all.refused(c.peer, reason, nil)
			abort(a.raw)
			continue
		}
		l.all.accepted.Add(1)
		l.all.cfg.Metrics.Accepted.Inc()
		l.all.cfg.Metrics.Open.Inc()
		return c, nil
	}
}

// accept goes on until the listener is closed. An error waits for Accept to take it, so that
// gRPC's pause is one here, too.
func (l *listener) accept() {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			if !l.hand(arrival{err: err}) || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		addr, ok := raw.RemoteAddr().(*net.TCPAddr)
		if !ok {
			_ = raw.Close()
			continue
		}
		peer := addr.AddrPort()
		if isProxy, most := l.all.limit.proxies(); isProxy != nil && isProxy(peer.Addr()) {
			header := l.headers.Enter(raw, most, proxied.Within)
			l.working.Go(func() { l.await(header, raw, peer) })
			continue
		}
		l.hand(arrival{raw: raw, peer: peer})
	}
}

// await hands on a proxy's connection as the one that its header says.
func (l *listener) await(header *proxied.Waiting, raw net.Conn, from netip.AddrPort) {
	client, err := header.Read(from)
	if err == nil {
		l.hand(arrival{raw: raw, peer: client})
		return
	}
	abort(raw)
	select {
	case <-l.ended:
	default:
		l.all.refused(from, metrics.RefusedProxy, err)
	}
}

// hand hands something to Accept, or closes it and returns false when the listener is closed.
func (l *listener) hand(a arrival) bool {
	select {
	case l.arrived <- a:
		return true
	case <-l.ended:
		if a.raw != nil {
			abort(a.raw)
		}
		return false
	}
}

// Close implements net.Listener. It may be called again.
func (l *listener) Close() error {
	err := l.Listener.Close()
	l.end.Do(func() { close(l.ended) })
	l.headers.End()
	l.working.Wait()
	return err
}
