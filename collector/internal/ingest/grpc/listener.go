package grpc

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/ingest/shaking"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// conn is an accepted connection.
type conn struct {
	net.Conn
	all   *Server
	peer  netip.AddrPort
	since time.Time
	once  sync.Once

	// Guarded by limiter.mu.
	shaking *shaking.Place // until its handshake is over
	unused  *time.Timer    // cuts it off unless it makes a call; nil before its handshake is over, and once it has made one
	cause   string         // why it was closed from this side
	name    string         // that its peer has proved; "" before
	told    bool           // that it has begun to send
}

// limiter counts connections.
type limiter struct {
	mu      sync.Mutex
	limits  Limits
	conns   map[*conn]struct{} // guarded by mu
	byAddr  map[netip.Addr]int // guarded by mu
	byName  map[string]int     // guarded by mu: those whose peers have proved it
	shaking *shaking.Bound     // entered with mu held
}

// proxies says which addresses are proxies', nil for none, and how many connections there may be.
func (l *limiter) proxies() (is func(netip.Addr) bool, conns int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limits.Proxy, l.limits.MaxConns
}

// abort closes a connection without waiting for the peer to take anything.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// add counts a connection, or says why it is refused. Where there are too many handshakes, the
// oldest one makes room: a peer that means it is done within moments.
func (l *limiter) add(c *conn) (reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	addr := c.peer.Addr().Unmap()
	switch {
	case l.byAddr[addr] >= l.limits.MaxPerAddr:
		return metrics.RefusedDup
	case len(l.conns) >= l.limits.MaxConns:
		return metrics.RefusedLimit
	}
	l.conns[c] = struct{}{}
	l.byAddr[addr]++
	c.shaking = l.shaking.Enter(addr, l.limits.MaxConns-len(l.conns), func() { // with mu held, by another one's add
		c.cause = metrics.ClosedHandshake
		go abort(c.Conn) // its Close follows from gRPC's side
	})
	return ""
}

// through says that a connection's handshake is over, one way or the other. mu is held.
func (l *limiter) through(c *conn) {
	if c.shaking != nil {
		c.shaking.Leave()
		c.shaking = nil
	}
}

// established says that a connection's handshake has succeeded, and counts it with its name's:
// OpenTimeout from now it has made a call, or is cut off. ok is false where the name has too many.
func (l *limiter) established(c *conn, name string) (ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.through(c)
	if _, open := l.conns[c]; !open {
		return true // it was closed meanwhile, and is not counted any more
	}
	if l.byName[name] >= l.limits.MaxPerName {
		return false
	}
	l.byName[name]++
	c.name = name
	c.unused = time.AfterFunc(l.limits.OpenTimeout, func() { c.cut(metrics.ClosedIdle) })
	return true
}

// opened says that a connection sends, which is told once, however many calls are made on it.
func (l *limiter) opened(c *conn) {
	l.mu.Lock()
	_, open := l.conns[c]
	first := open && !c.told
	c.told = c.told || open
	l.mu.Unlock()
	if first {
		c.all.report(Report{Peer: c.peer})
	}
}

// used says that a connection makes a call.
func (l *limiter) used(c *conn) {
	l.mu.Lock()
	l.stopUnused(c)
	l.mu.Unlock()
}

// stopUnused is called with mu held.
func (l *limiter) stopUnused(c *conn) {
	if c.unused != nil {
		c.unused.Stop()
		c.unused = nil
	}
}

// close says why a connection will be closed.
func (l *limiter) close(c *conn, cause string) {
	l.mu.Lock()
	if c.cause == "" {
		c.cause = cause
	}
	l.mu.Unlock()
}

// ended returns why a connection was closed from this side, "" where it was not.
func (l *limiter) ended(c *conn) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.cause
}

// cut closes a connection for a reason, which counts where it is the first one.
func (c *conn) cut(cause string) {
	c.all.limit.close(c, cause)
	abort(c.Conn)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		l := &c.all.limit
		l.mu.Lock()
		delete(l.conns, c)
		addr := c.peer.Addr().Unmap()
		if l.byAddr[addr]--; l.byAddr[addr] <= 0 {
			delete(l.byAddr, addr)
		}
		if c.name != "" {
			if l.byName[c.name]--; l.byName[c.name] <= 0 {
				delete(l.byName, c.name)
			}
		}
		midway, cause, told := c.shaking != nil, c.cause, c.told
		l.through(c)
		l.stopUnused(c)
		l.mu.Unlock()
		switch {
		case cause != "":
		case midway:
			cause = metrics.ClosedHandshake
		default:
			cause = metrics.ClosedByPeer
		}
		m := c.all.cfg.Metrics
		m.Open.Dec()
		m.Closed.Add(cause, 1)
		if told {
			c.all.report(Report{Close: true, Peer: c.peer})
		}
	})
	return err
}

// maxAnswer is the present bound of an answer.
func (l *limiter) maxAnswer() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limits.MaxAnswer
}

// each calls f with every connection.
func (l *limiter) each(f func(*conn)) {
	l.mu.Lock()
	all := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		f(c)
	}
}
