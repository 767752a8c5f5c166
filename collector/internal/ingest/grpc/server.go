package grpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/auditfleet/auditfleet/collector/internal/ingest/shaking"
	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/seldom"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/proto/fleet"
	"github.com/auditfleet/auditfleet/proto/ingest"
)

// Limits are what connections may take.
type Limits struct {
	MaxConns   int // in all; DefaultMaxConns when 0
	MaxPerAddr int // DefaultMaxPerAddr when 0
	// Proxy says whether an address is a proxy's, whose connections begin with a PROXY header
	// and are those of the address in it; nil: none is.
	Proxy func(netip.Addr) bool
	// MaxHandshakes bounds the connections that are not verified yet, and
	// MaxHandshakesPerAddr those of one address.
	MaxHandshakes, MaxHandshakesPerAddr int
	// HandshakeTimeout is from the first byte to the end of the handshake, OpenTimeout from
	// there to the stream's Open, and WriteTimeout how long a peer may take no answers.
	HandshakeTimeout, OpenTimeout, WriteTimeout time.Duration
	MaxInFlight                                 int // bytes of a stream that are received and not stored
	// MaxStreams bounds the streams of one name.
	MaxStreams int
	// MaxPerName bounds the connections of one name, from however many addresses: what
	// one host's key can take of MaxConns.
	MaxPerName int
	// MaxAnswer bounds the bytes of one answer to a query; one that follows has no end, and
	// no bound.
	MaxAnswer int64
	// WitnessEvery is how often a forwarder is sent a newer checkpoint at most.
	WitnessEvery time.Duration
}

// The defaults of Limits.
const (
	DefaultMaxConns   = 10000
	DefaultMaxPerAddr = 256
	DefaultMaxAnswer  = 16 << 30

	defaultHandshakes        = 256
	defaultHandshakesPerAddr = 16
	defaultHandshakeTimeout  = 10 * time.Second
	defaultOpenTimeout       = 10 * time.Second
	defaultWriteTimeout      = 30 * time.Second
	defaultMaxInFlight       = 1 << 20
	defaultMaxStreams        = 16
	defaultMaxPerName        = 64

	// A client's pings come more often, so that a server pings only where these do not come.
	keepaliveEvery = 2 * time.Minute
	keepaliveWait  = 20 * time.Second
	clientEvery    = 10 * time.Second // pings of a client may come no more often
	// A connection that has made calls may be without one for so long. gRPC wakes a goroutine
	// of each connection as often, which is most of what idle ones cost.
	callEvery  = 5 * time.Minute
	drainGrace = 2 * time.Second

	// streamWindow is how much of a stream may have come that was not read: with records
	// packed into some 17 bytes, over a round trip of 50 ms, 150,000 records/s. gRPC goes by
	// streams there: of a connection it is maxCalls times as much at most.
	streamWindow = 128 << 10
	maxCalls     = 4 // of a connection at once
)

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	wait := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.MaxConns, DefaultMaxConns)
	def(&l.MaxPerAddr, DefaultMaxPerAddr)
	def(&l.MaxHandshakes, defaultHandshakes)
	def(&l.MaxHandshakesPerAddr, defaultHandshakesPerAddr)
	wait(&l.HandshakeTimeout, defaultHandshakeTimeout)
	wait(&l.OpenTimeout, defaultOpenTimeout)
	wait(&l.WriteTimeout, defaultWriteTimeout)
	wait(&l.WitnessEvery, DefaultWitnessEvery)
	def(&l.MaxInFlight, defaultMaxInFlight)
	def(&l.MaxStreams, defaultMaxStreams)
	def(&l.MaxPerName, defaultMaxPerName)
	if l.MaxAnswer == 0 {
		l.MaxAnswer = DefaultMaxAnswer
	}
	return l
}

// Report is what the collector's own DAEMON_ACCEPT and DAEMON_CLOSE records tell.
type Report struct {
	Close bool   // the end of a stream
	Op    string // why a connection or a call was refused, or was cut off; "" where a stream was opened
	Peer  netip.AddrPort
	Name  string // that a refused peer has proved; "" for none
	// Other is the second address of OpTwins.
	Other netip.Addr
}

// OpTwins says that two hosts send under one name at once.
const OpTwins = "two-hosts"

// Session is what a CRYPTO_SESSION record tells of a connection whose peer has proved its name.
type Session struct {
	Peer  netip.AddrPort
	Local net.Addr
	Name  string
	TLS   pki.Session
}

// Offsets says what is held of a stream: a *journal.Journal.
type Offsets interface {
	// Held returns up to which offset, exclusive, a stream is stored, and whether it can't be
	// that the stream was forgotten.
	Held(name string, id journal.StreamID) (next uint64, sure bool)
}

// Enroller gives hosts their certificates on connections of their own, which it knows by
// their application protocol.
type Enroller interface {
	// TLS adds its protocols to a server's configuration.
	TLS(*tls.Config) *tls.Config
	// Renewal is the protocol of who has a certificate already.
	Renewal() string
	Mine(protocol string) bool
	// Serve answers and closes a connection, in bounded time.
	Serve(net.Conn, tls.ConnectionState)
}

// Config is what a Server is made of. All of it is needed but Enroll, Report, Begun, Refused and Now.
type Config struct {
	Addrs   []string
	Trust   *pki.Trust
	Enroll  Enroller // nil: hosts get no certificates here
	Intake  *intake.Intake
	Offsets Offsets
	Limits  Limits
	Log     hclog.Logger
	Metrics *metrics.GRPC
	Report  func(Report)  // must not block
	Begun   func(Session) // likewise
	// Refused is told of a stream that was refused before its service heard of it; likewise.
	Refused func(ctx context.Context, method string, err error)
	Now     func() time.Time
}

// Server receives by gRPC.
type Server struct {
	cfg       Config
	store     []byte // Serve's; none: the store has no ID
	ln        []net.Listener
	limit     limiter
	noisy     seldom.Limiter // of log lines about peers
	closing   atomic.Bool
	witnesses *witnesses // nil: the collector signs nothing
	// accepted counts connections.
	accepted atomic.Uint64

	fleet.UnimplementedIngestServer
	rpc    *rpc.Server // nil before Serve
	health *health.Server
	ctx    context.Context // ends what waits in the intake
	abort  context.CancelFunc
	served sync.WaitGroup

	mu       sync.Mutex
	streams  map[streamKey]*session // guarded by mu
	names    map[string][]*session  // guarded by mu: those of each
	said     map[string]Said        // guarded by mu: what hosts say of themselves
	told     map[string]time.Time   // guarded by mu: when twins of a name were last said
	draining chan struct{}          // closed, with mu held, by Drain
}

type streamKey struct {
	name string
	id   journal.StreamID
}

// Listen binds every address, or none of them and says which failed. Nothing is accepted
// before Run.
func Listen(cfg Config) (_ *Server, err error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Limits = cfg.Limits.withDefaults()
	s := &Server{
		cfg: cfg, noisy: seldom.Limiter{Now: time.Now, Burst: 5, Every: 10 * time.Second},
		limit:    limiter{limits: cfg.Limits, conns: map[*conn]struct{}{}, byAddr: map[netip.Addr]int{}, byName: map[string]int{}, shaking: shaking.New(cfg.Limits.MaxHandshakes, cfg.Limits.MaxHandshakesPerAddr)},
		streams:  map[streamKey]*session{},
		names:    map[string][]*session{},
		said:     map[string]Said{},
		told:     map[string]time.Time{},
		draining: make(chan struct{}),
	}
	s.ctx, s.abort = context.WithCancel(context.Background())
	for _, addr := range cfg.Addrs {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			for _, ln := range s.ln {
				err = errors.Join(err, ln.Close())
			}
			return nil, fmt.Errorf("listen on %s for gRPC: %w: stop what holds the port, or choose another --grpc", addr, err)
		}
		s.ln = append(s.ln, newListener(ln, s))
	}
	return s, nil
}

// Serve says where records go, once there is an intake, and the ID of the store that has them,
// which senders are told. Run follows.
func (s *Server) Serve(in *intake.Intake, held Offsets, store [16]byte) {
	s.cfg.Intake, s.cfg.Offsets = in, held
	if store != [16]byte{} {
		s.store = store[:]
	}
	s.rpc = rpc.NewServer(
		rpc.Creds(newHandshake(s)), rpc.ConnectionTimeout(s.cfg.Limits.HandshakeTimeout),
		rpc.MaxRecvMsgSize(ingest.MaxMessage), rpc.UnaryInterceptor(s.unary), rpc.StreamInterceptor(s.streaming), rpc.MaxConcurrentStreams(maxCalls), rpc.MaxHeaderListSize(8<<10),
		rpc.InitialWindowSize(streamWindow), rpc.InitialConnWindowSize(2*streamWindow),
		rpc.ReadBufferSize(4<<10), rpc.WriteBufferSize(4<<10), rpc.ForceServerCodecV2(fleet.Codec{}),
		rpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveEvery, Timeout: keepaliveWait, MaxConnectionIdle: callEvery}),
		rpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: clientEvery}),
		rpc.WaitForHandlers(true),
	)
	s.health = health.NewServer()
	fleet.RegisterIngestServer(s.rpc, s)
	healthpb.RegisterHealthServer(s.rpc, s.health)
	s.health.SetServingStatus(fleet.Ingest_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
}

// Addrs are the addresses listened on, with the ports the kernel chose.
func (s *Server) Addrs() (list []net.Addr) {
	for _, ln := range s.ln {
		list = append(list, ln.Addr())
	}
	return list
}

// Len is how many connections are open.
func (s *Server) Len() int {
	s.limit.mu.Lock()
	defer s.limit.mu.Unlock()
	return len(s.limit.conns)
}

// Accepted is the number of connections accepted, ever.
func (s *Server) Accepted() uint64 { return s.accepted.Load() }

// Connected calls f with the peer of each open connection.
func (s *Server) Connected(f func(netip.AddrPort)) { s.limit.each(func(c *conn) { f(c.peer) }) }

// SetLimits changes the limits of connections for what comes from now on.
func (s *Server) SetLimits(l Limits) {
	s.limit.mu.Lock()
	s.limit.limits = l.withDefaults()
	s.limit.mu.Unlock()
}

// Run accepts connections until ctx is done. Sessions may go on after that.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		for _, ln := range s.ln {
			_ = ln.Close()
		}
	})
	defer stop()
	ended := make(chan error, len(s.ln))
	for _, ln := range s.ln {
		s.served.Go(func() { ended <- s.rpc.Serve(ln) })
	}
	for range s.ln {
		if err := <-ended; err != nil && ctx.Err() == nil && !errors.Is(err, rpc.ErrServerStopped) {
			return fmt.Errorf("receive by gRPC: %w", err)
		}
	}
	return nil
}

// Drain tells every session to go elsewhere, and waits until all have ended: what is on its
// way is answered.
func (s *Server) Drain() {
	s.health.Shutdown()
	s.mu.Lock()
	select {
	case <-s.draining:
	default:
		close(s.draining)
	}
	s.mu.Unlock()
	s.rpc.GracefulStop()
}

// Close ends everything at once, and joins.
func (s *Server) Close() error {
	s.closing.Store(true)
	s.abort()
	for _, ln := range s.ln {
		_ = ln.Close() // it may be closed already
	}
	s.limit.each(func(c *conn) { c.cut(metrics.ClosedShutdown) })
	if s.rpc != nil {
		s.rpc.Stop()
	}
	s.served.Wait()
	return nil
}
