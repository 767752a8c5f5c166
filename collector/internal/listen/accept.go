package listen

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/poll"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// Run accepts connections until ctx is done, each handled by handle in a
// goroutine of its own; the connection is closed when handle returns. When Run
// returns, nothing listens any more, but handlers may still run: see Wait.
func (l *Listener) Run(ctx context.Context, handle func(*Conn)) {
	stop := context.AfterFunc(ctx, l.closeSockets)
	defer stop()
	var accepting sync.WaitGroup
	for _, ln := range l.ln {
		accepting.Go(func() { l.accept(ctx, ln, handle) })
	}
	accepting.Wait()
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
}

// accept goes on until ctx is done or ln is closed: whatever else fails passes.
func (l *Listener) accept(ctx context.Context, ln *net.TCPListener, handle func(*Conn)) {
	for {
		tcp, err := ln.AcceptTCP()
		switch {
		case err == nil:
			l.arrive(tcp, handle)
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default:
			// Out of descriptors or memory: those who wait stay in the queue. Nothing is gained by asking at once.
			l.cfg.Metrics.Errors.Inc()
			if ok, suppressed := l.failures.Allow(); ok {
				l.cfg.Log.Error("accept failed; trying again", "addr", ln.Addr().String(), "error", err, "suppressed", suppressed)
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

// arrive looks whose connection a new one is: a proxy's says so in a header.
func (l *Listener) arrive(tcp *net.TCPConn, handle func(*Conn)) {
	addr, ok := tcp.RemoteAddr().(*net.TCPAddr)
	if !ok {
		_ = tcp.Close() // reset before we looked
		return
	}
	peer := addr.AddrPort()
	l.mu.Lock()
	proxy := l.limits.Proxy
	l.mu.Unlock()
	if proxy != nil && proxy(peer.Addr()) {
		l.awaitHeader(tcp, peer, handle)
		return
	}
	l.admit(tcp, &Conn{l: l, peer: peer}, handle)
}

// admit refuses a new connection or starts its handler. c has all but its socket.
func (l *Listener) admit(tcp *net.TCPConn, c *Conn, handle func(*Conn)) {
	var err error
	if c.sock, err = poll.Detach(tcp); err != nil {
		l.cfg.Metrics.Errors.Inc()
		if ok, suppressed := l.failures.Allow(); ok {
			l.cfg.Log.Error("a connection could not be taken over", "peer", c.peer, "error", err, "suppressed", suppressed)
		}
		return
	}
	reason := l.add(c)
	if reason == metrics.RefusedDup {
		if l.contest(c, handle) {
			return // it is decided when those in its way have been asked
		}
		reason = l.add(c) // one of them was over, or none is doubtful
	}
	l.decide(c, reason, handle)
}

// decide refuses a connection for a reason, or starts the handler of one that add has
// added.
func (l *Listener) decide(c *Conn, reason string, handle func(*Conn)) {
	if reason != "" {
		_ = c.sock.Close()
		l.refuse(c, reason, nil)
		return
	}
	setKeepAlive(c.sock)
	l.setBuffers()
	l.accepted.Add(1)
	l.cfg.Metrics.Accepted.Inc()
	l.cfg.Metrics.Open.Inc()
	l.report(Report{Peer: c.peer})
	go func() {
		defer l.handlers.Done()
		handle(c)
		c.Shut(metrics.ClosedByPeer)
		_ = c.sock.Close()
		l.remove(c)
	}()
}

// stockOp is a refusal's word in the stock server's DAEMON_ACCEPT: it knows no
// limit in all, but says "alloc" when it cannot take another client.
func stockOp(reason string) string {
	if reason == metrics.RefusedLimit {
		return "alloc"
	}
	return reason
}

func (l *Listener) report(r Report) {
	if l.cfg.Report != nil {
		l.cfg.Report(r)
	}
}

// add adds c to those that are open and returns "", or the reason why not. It also
// counts c's handler in handlers: under mu, so that Wait can't miss it.
func (l *Listener) add(c *Conn) (reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	addr := c.peer.Addr()
	switch {
	case c.peer.Port() < l.limits.MinPort || c.peer.Port() > l.limits.MaxPort:
		return metrics.RefusedPort
	case l.limits.Trusts != nil && !l.limits.Trusts(addr):
		return metrics.RefusedUntrusted
	case len(l.byAddr[addr]) >= l.limits.MaxPerAddr:
		return metrics.RefusedDup
	case l.descriptors() >= l.limits.MaxConns || l.ended:
		return metrics.RefusedLimit
	}
	l.conns[c] = struct{}{}
	l.byAddr[addr] = append(l.byAddr[addr], c)
	l.handlers.Add(1)
	return ""
}

// descriptors is how many connections have one: those who wait, too. mu is held.
func (l *Listener) descriptors() int { return len(l.conns) + len(l.waits) + l.headers.Len() }

// remove says that c is closed.
func (l *Listener) remove(c *Conn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.forget(c)
	l.mu.Unlock()
	l.setBuffers()
	l.cfg.Metrics.Open.Dec()
	l.cfg.Metrics.Closed.Add(c.Cause(), 1)
	l.report(Report{Close: true, Peer: c.peer})
}

// forget has c no longer count for its address. mu is held.
func (l *Listener) forget(c *Conn) {
	addr := c.peer.Addr()
	list := l.byAddr[addr]
	for i, other := range list {
		if other == c {
			list[i] = list[len(list)-1]
			list[len(list)-1] = nil
			list = list[:len(list)-1]
			break
		}
	}
	if len(list) == 0 {
		delete(l.byAddr, addr)
		return
	}
	l.byAddr[addr] = list
}
