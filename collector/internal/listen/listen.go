// Package listen accepts senders' connections and keeps the limits on them: how
// many there are in all and from one address, from which client ports, how long
// one may be idle and how long a frame may take to arrive. What the connections
// carry it does not know. The collector's server wires it to ingest/remote and is the
// only one to import it.
//
// One goroutine a listening socket accepts, one sweeps for idle and slow
// connections, each connection has the one goroutine of its handler, and so has
// a newcomer while those in its way are asked whether they are alive.
// Lock order: Listener.mu is the only lock, and nothing that may wait is called under it.
package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/poll"
	"github.com/auditfleet/auditfleet/collector/internal/seldom"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/wake"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// Limits are what may be changed while connections are open. They apply to what
// comes after: no connection is closed because a limit shrank.
type Limits struct {
	MaxPerAddr       int           // tcp_max_per_addr; 0 means 1
	MinPort, MaxPort uint16        // tcp_client_ports, inclusive; 0, 0 means any
	MaxIdle          time.Duration // tcp_client_max_idle; 0 means for ever
	MaxConns         int           // in all; 0 means DefaultMaxConns
	FrameTimeout     time.Duration // first byte to whole frame; 0 means DefaultFrameTimeout
}

const (
	// Defaults of the limits that the stock server does not have.
	DefaultMaxConns     = 10000
	DefaultFrameTimeout = 30 * time.Second
	// DefaultBacklog is the listen queue where tcp_listen_queue does not say
	// otherwise. The stock default of 5 makes the kernel reset connections when a
	// few dozen senders come back together, as they do when a collector restarts.
	DefaultBacklog = 1024
)

// Report is what the collector's own DAEMON_ACCEPT and DAEMON_CLOSE records tell.
type Report struct {
	Close bool   // the end of an accepted connection
	Op    string // why it was refused ("dup", "port", "alloc"); "" when accepted
	Peer  netip.AddrPort
}

// Config is what a Listener is made of.
type Config struct {
	Addrs   []string // host:port, each; an empty host is every address, IPv4 and IPv6
	Backlog int      // tcp_listen_queue; 0 means DefaultBacklog
	Limits  Limits
	Log     hclog.Logger
	Metrics *metrics.Listen
	Report  func(Report) // must not block; nil for none
}

// Listener accepts connections.
type Listener struct {
	cfg       Config
	ln        []*net.TCPListener
	start     time.Time // of the monotonic clock that Conn.since counts by
	refusals  refusals
	failures  seldom.Limiter // of log lines about accepting
	ownBuffer int            // a socket's receive buffer where nobody sets it
	accepted  atomic.Uint64
	changed   wake.Signal // limits changed: the sweeper looks again
	sweeper   sync.WaitGroup
	handlers  sync.WaitGroup
	contests  sync.WaitGroup
	closing   chan struct{}
	once      sync.Once

	mu     sync.Mutex
	limits Limits                 // guarded by mu
	conns  map[*Conn]struct{}     // guarded by mu
	byAddr map[netip.Addr][]*Conn // guarded by mu; a dying session is in conns only
	waits  map[netip.Addr]*Conn   // guarded by mu: who waits for the sessions in its way to be asked
	shared int                    // guarded by mu: the receive buffer of the next one; 0: the kernel's
	ended  bool                   // guarded by mu: nothing is accepted any more
}

// Open binds and listens on every address, or on none of them and says which failed.
func Open(cfg Config) (_ *Listener, err error) {
	l := &Listener{
		cfg:     cfg,
		start:   time.Now(),
		changed: wake.New(),
		closing: make(chan struct{}),
		conns:   map[*Conn]struct{}{},
		byAddr:  map[netip.Addr][]*Conn{},
		waits:   map[netip.Addr]*Conn{},
		refusals: refusals{
			limiter: seldom.Limiter{Now: time.Now, Burst: refusalsSaid, Every: refusalsEvery},
			said:    map[refusal]time.Time{},
		},
		failures: seldom.Limiter{Now: time.Now, Burst: 1, Every: 10 * time.Second},
	}
	if err := checkLimits(cfg.Limits); err != nil {
		return nil, err
	}
	l.limits = withDefaults(cfg.Limits)
	defer func() {
		if err != nil {
			l.closeSockets()
		}
	}()
	if len(cfg.Addrs) == 0 {
		return nil, errors.New("listen: no address to listen on: give --listen ADDR:PORT")
	}
	for _, addr := range cfg.Addrs {
		ln, err := listenTCP(addr, cfg.Backlog)
		if err != nil {
			return nil, err
		}
		l.ln = append(l.ln, ln)
	}
	l.ownBuffer = bufferOf(l.ln[0])
	l.sweeper.Add(1)
	go l.sweep()
	return l, nil
}

func withDefaults(m Limits) Limits {
	if m.MaxPerAddr == 0 {
		m.MaxPerAddr = 1
	}
	if m.MaxPort == 0 {
		m.MinPort, m.MaxPort = 0, 65535
	}
	if m.MaxConns == 0 {
		m.MaxConns = DefaultMaxConns
	}
	if m.FrameTimeout == 0 {
		m.FrameTimeout = DefaultFrameTimeout
	}
	return m
}

func checkLimits(m Limits) error {
	switch {
	case m.MaxPerAddr < 0:
		return fmt.Errorf("listen: tcp_max_per_addr %d: must be 1 or more", m.MaxPerAddr)
	case m.MaxConns < 0:
		return fmt.Errorf("listen: tcp_max_clients %d: must be 1 or more", m.MaxConns)
	case m.MinPort > m.MaxPort && m.MaxPort != 0:
		return fmt.Errorf("listen: tcp_client_ports %d-%d: the first is greater than the last", m.MinPort, m.MaxPort)
	case m.MaxIdle < 0 || m.FrameTimeout < 0:
		return errors.New("listen: a time limit is negative")
	}
	return nil
}

// listenTCP listens with the backlog asked for. Go passes somaxconn; a second
// listen(2) on the same socket sets the length of its queue anew.
func listenTCP(addr string, backlog int) (*net.TCPListener, error) {
	any, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, listenError(addr, err)
	}
	ln := any.(*net.TCPListener)
	if backlog <= 0 {
		backlog = DefaultBacklog
	}
	raw, err := ln.SyscallConn()
	if err == nil {
		var lerr error
		err = raw.Control(func(fd uintptr) {
			// What is accepted inherits it.
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
			lerr = unix.Listen(int(fd), backlog)
		})
		err = errors.Join(err, lerr)
	}
	if err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("listen on %s: set the listen queue to %d: %w", addr, backlog, err)
	}
	return ln, nil
}

func listenError(addr string, err error) error {
	_, port, _ := net.SplitHostPort(addr)
	var hint string
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = fmt.Sprintf("another program holds it (an auditd? see: ss -ltnp 'sport = :%s'); stop that one or choose another --listen", port)
	case errors.Is(err, syscall.EACCES):
		hint = "a port below 1024 needs root or CAP_NET_BIND_SERVICE"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "this machine does not have that address"
	default:
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	return fmt.Errorf("listen on %s: %w: %s", addr, err, hint)
}

// Addrs are the addresses listened on, with the ports the kernel chose.
func (l *Listener) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(l.ln))
	for i, ln := range l.ln {
		addrs[i] = ln.Addr()
	}
	return addrs
}

// SetLimits changes the limits for what comes from now on.
func (l *Listener) SetLimits(m Limits) error {
	if err := checkLimits(m); err != nil {
		return err
	}
	l.mu.Lock()
	l.limits = withDefaults(m)
	l.mu.Unlock()
	l.changed.Set()
	return nil
}

// Len is the number of connections open now.
func (l *Listener) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// Accepted is the number of connections accepted, ever.
func (l *Listener) Accepted() uint64 { return l.accepted.Load() }

// Connected calls f with the peer of each open connection.
func (l *Listener) Connected(f func(netip.AddrPort)) {
	l.mu.Lock()
	peers := make([]netip.AddrPort, 0, len(l.conns))
	for c := range l.conns {
		peers = append(peers, c.peer)
	}
	l.mu.Unlock()
	for _, p := range peers {
		f(p)
	}
}

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
			l.admit(tcp, handle)
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

// admit refuses a new connection or starts its handler.
func (l *Listener) admit(tcp *net.TCPConn, handle func(*Conn)) {
	peer, ok := tcp.RemoteAddr().(*net.TCPAddr)
	if !ok {
		_ = tcp.Close() // reset before we looked
		return
	}
	sock, err := poll.Take(tcp)
	if err != nil {
		l.cfg.Metrics.Errors.Inc()
		if ok, suppressed := l.failures.Allow(); ok {
			l.cfg.Log.Error("a connection could not be taken over", "peer", peer, "error", err, "suppressed", suppressed)
		}
		return
	}
	c := &Conn{sock: sock, l: l, peer: peer.AddrPort()}
	reason := l.add(c)
	if reason == metrics.RefusedDup {
		if l.contest(c, handle) {
			return // it is decided when those in its way have been asked
		}
		reason = l.add(c) // one of them was over, or none is doubtful
	}
	l.decide(c, reason, handle)
}

// decide refuses a connection for a reason, or starts the handler of one that add
// has taken in.
func (l *Listener) decide(c *Conn, reason string, handle func(*Conn)) {
	if reason != "" {
		_ = c.sock.Close()
		l.cfg.Metrics.Refused.Add(reason, 1)
		l.sayRefused(c, reason)
		l.report(Report{Op: stockOp(reason), Peer: c.peer})
		return
	}
	setKeepAlive(c.sock)
	l.share()
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

// add takes c in and returns "", or the reason why not. It also counts c's
// handler in handlers: under mu, so that Wait can't miss it.
func (l *Listener) add(c *Conn) (reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	addr := c.peer.Addr()
	switch {
	case c.peer.Port() < l.limits.MinPort || c.peer.Port() > l.limits.MaxPort:
		return metrics.RefusedPort
	case len(l.byAddr[addr]) >= l.limits.MaxPerAddr:
		return metrics.RefusedDup
	case len(l.conns)+len(l.waits) >= l.limits.MaxConns || l.ended: // who waits has a descriptor, too
		return metrics.RefusedLimit
	}
	l.conns[c] = struct{}{}
	l.byAddr[addr] = append(l.byAddr[addr], c)
	l.handlers.Add(1)
	return ""
}

func (l *Listener) remove(c *Conn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.forget(c)
	l.mu.Unlock()
	l.share()
	l.cfg.Metrics.Open.Dec()
	l.cfg.Metrics.Closed.Add(c.Cause(), 1)
	l.report(Report{Close: true, Peer: c.peer})
}

// forget takes c out of what its address may have. The caller holds mu.
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

// Wait joins every handler. Run has returned before.
func (l *Listener) Wait() { l.handlers.Wait() }

// Close closes the listening sockets and every connection, and joins every
// goroutine. Those that are to end in good order were waited for before.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closing) })
	l.closeSockets()
	l.mu.Lock()
	l.ended = true
	open := make([]*Conn, 0, len(l.conns))
	for c := range l.conns {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		c.Shut(metrics.ClosedShutdown)
	}
	l.handlers.Wait()
	l.contests.Wait()
	l.sweeper.Wait()
	return nil
}

func (l *Listener) closeSockets() {
	for _, ln := range l.ln {
		_ = ln.Close()
	}
}
