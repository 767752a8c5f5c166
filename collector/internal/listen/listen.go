// Package listen accepts senders' connections and keeps the limits on them: how
// many there are in all and from one address, from which client ports, how long
// one may be idle and how long a frame may take to arrive. What the connections
// carry it does not know. The collector's server wires it to ingest/remote and is the
// only one to import it.
//
// One goroutine a listening socket accepts, one sweeps for idle and slow
// connections, each connection has the one goroutine of its handler, and so has
// a newcomer while those in its way are asked whether they are alive, or while its
// PROXY header is read.
// Lock order: Listener.mu, under which headers is asked and nothing that may wait is called.
package listen

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/proxied"
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
	// Trusts says whether an address may connect at all (trusted_senders); nil: any may.
	Trusts func(netip.Addr) bool
	// Proxy says whether an address is a proxy's (proxy_protocol_from): its connections begin
	// with a PROXY header, and are those of the address in it. nil: none is.
	Proxy        func(netip.Addr) bool
	MaxConns     int           // in all; 0 means DefaultMaxConns
	FrameTimeout time.Duration // first byte to whole frame; 0 means DefaultFrameTimeout
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
	cfg           Config
	ln            []*net.TCPListener
	start         time.Time // of the monotonic clock that Conn.since counts by
	refusals      refusals
	failures      seldom.Limiter // of log lines about accepting
	defaultBuffer int            // a socket's receive buffer where nobody sets it
	accepted      atomic.Uint64
	headers       proxied.Headers // of proxies' connections; entered with mu held
	changed       wake.Signal     // for the sweeper: limits changed
	closing       chan struct{}
	once          sync.Once

	// Goroutines. A handler is added under mu while ended is false, so that Wait misses
	// none; so is a newcomer.
	sweeper, handlers, newcomers sync.WaitGroup

	mu     sync.Mutex
	limits Limits             // guarded by mu
	conns  map[*Conn]struct{} // guarded by mu: all that are open
	// byAddr are those that count for an address, guarded by mu: of conns all but
	// sessions that are over and whose last records are still being stored.
	byAddr  map[netip.Addr][]*Conn
	waits   map[netip.Addr]*Conn // guarded by mu: newcomers whose address has no place, until its sessions were probed
	buffers int                  // guarded by mu: the receive buffer that the next connection inherits; 0: the kernel's choice
	ended   bool                 // guarded by mu: nothing is accepted any more
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
			limiter: seldom.Limiter{Now: time.Now, Burst: refusalsLogged, Every: refusalsEvery},
			logged:  map[refusal]time.Time{},
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
	l.defaultBuffer = bufferOf(l.ln[0])
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

// SetLimits changes the limits for what comes from now on. Connections of addresses that are
// no longer trusted are ended.
func (l *Listener) SetLimits(m Limits) error {
	if err := checkLimits(m); err != nil {
		return err
	}
	l.mu.Lock()
	l.limits = withDefaults(m)
	var untrusted []*Conn
	for c := range l.conns {
		if m.Trusts != nil && !m.Trusts(c.peer.Addr()) {
			untrusted = append(untrusted, c)
		}
	}
	l.mu.Unlock()
	l.changed.Set()
	for _, c := range untrusted {
		c.Shut(metrics.ClosedRevoked)
	}
	if len(untrusted) > 0 {
		l.cfg.Log.Warn("closed connections: no line of trusted_senders has their address any more", "connections", len(untrusted), "peer", untrusted[0].peer)
	}
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
	l.headers.End()
	l.handlers.Wait()
	l.newcomers.Wait()
	l.sweeper.Wait()
	return nil
}

func (l *Listener) closeSockets() {
	for _, ln := range l.ln {
		_ = ln.Close()
	}
}
