// Package server wires the collector: sockets, sessions, journal, head and store,
// the query API, metrics. It decides in which order they start and stop, and
// nothing else. The command line is the only one to import it.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/auditfleet/auditfleet/collector/internal/alert"
	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/descriptors"
	"github.com/auditfleet/auditfleet/collector/internal/enroll"
	"github.com/auditfleet/auditfleet/collector/internal/fanout"
	"github.com/auditfleet/auditfleet/collector/internal/head"
	ingestgrpc "github.com/auditfleet/auditfleet/collector/internal/ingest/grpc"
	"github.com/auditfleet/auditfleet/collector/internal/ingest/remote"
	"github.com/auditfleet/auditfleet/collector/internal/ingest/secure"
	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/outgrown"
	"github.com/auditfleet/auditfleet/collector/internal/rates"
	"github.com/auditfleet/auditfleet/collector/internal/render"
	"github.com/auditfleet/auditfleet/collector/internal/retention"
	"github.com/auditfleet/auditfleet/collector/internal/roster"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/selfaudit"
	"github.com/auditfleet/auditfleet/collector/internal/sink"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

// ErrInterrupted is returned by Run when it was told not to wait for its end.
// What was acknowledged is in the journal and replayed at the next start.
var ErrInterrupted = errors.New("interrupted before everything was in order")

// ErrRefused is what Open's error is, too, where Check would have returned it.
var ErrRefused = errors.New("the configuration is refused")

// refused is an error of the configuration: its text is the cause's alone.
type refused struct{ error }

func (r refused) Is(target error) bool { return target == ErrRefused }
func (r refused) Unwrap() error        { return r.error }

// ErrStopped is returned by Open when it was told to stop while it replayed the journal, which
// the next start does again.
var ErrStopped = errors.New("told to stop before the journal was replayed")

// How long a record of who asked may wait for the name of an account, and for how much of
// the time.
const (
	nameWait  = 50 * time.Millisecond
	nameShare = 0.1
)

// Server is a collector.
type Server struct {
	cfg     Config
	started time.Time
	reg     *metrics.Registry

	journal    *journal.Journal
	store      store.Store
	head       *head.Head
	intake     *intake.Intake
	verified   *ingestgrpc.Server // nil where nothing is received by gRPC
	own        *selfaudit.Records
	seal       *seal.Log
	compaction *compaction
	senders    *roster.Senders
	roster     *roster.Roster // nil: no other collector keeps events where this one does
	action     *action.Runner
	space      *space.Watcher
	retention  *retention.Keeper
	holds      holds
	turns      *turns // of bundles of evidence
	outgrown   *outgrown.Watcher
	alerts     *alert.Evaluator
	fanout     *fanout.Fanout
	rates      rates.Rates
	sinks      *sink.Sinks // of alerts

	transports []transport // what Run runs; clear and secured are of them
	// clear and secured take the audisp-remote protocol, the one without and the other with
	// TLS; nil where none is asked for. They share sessions and metrics.
	clear, secured *textListener
	sessions       *remote.Sessions
	listenMetrics  *metrics.Listen
	trust          *pki.Trust     // nil without certificates
	psk            *secure.PSK    // nil without pre-shared keys
	enrol          *enroll.Server // nil: hosts get no certificates here

	stopWork context.CancelFunc // of what Run has going on beside the sessions
	work     sync.WaitGroup

	api    *net.UnixListener
	apiGID int // of the group that may use it
	watch  *api.Watch
	names  *nss.System // of who asks
	grpc   *grpc.Server
	httpLn net.Listener
	http   *http.Server

	ready     atomic.Bool
	hungLooks atomic.Uint64 // see alive
	reload    metrics.Config
	served    sync.WaitGroup // the API's and HTTP's serving goroutines
	once      sync.Once
	err       error // of Close
}

// Open takes the store, binds every socket and replays the journal. Nothing is
// accepted before Run. A failed Open has released all it took.
func Open(cfg Config) (_ *Server, err error) {
	if err := cfg.defaults(); err != nil {
		return nil, refused{err}
	}
	defer cfg.Service.Starting("opening the store")()
	s := &Server{cfg: cfg, started: cfg.Now(), reg: metrics.New(), turns: newTurns()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	names, trust, err := s.check()
	if err != nil {
		return nil, refused{err}
	}
	// Sockets before the replay: a port in use is known at once. And before a store is made:
	// a start that fails leaves none behind.
	open := []func() error{s.openStore, s.bind}
	if !exists(cfg.Store) {
		slices.Reverse(open)
	}
	for _, f := range open {
		if err := f(); err != nil {
			return nil, err
		}
	}
	s.openHolds()
	s.retention = retention.New(retention.Config{
		Events: s.store, Limits: cfg.Retention, Now: cfg.Now, Log: cfg.Log, Metrics: s.reg, Held: s.holds.keep.Why,
		Record: func(format string, args ...any) { s.own.Add("DAEMON_ROTATE", format, args...) },
	})
	s.openSpace()
	if err := s.openJournal(); err != nil {
		return nil, err
	}
	s.names = nss.New(nss.Config{Wait: nameWait, Share: nameShare, Warn: cfg.Log.Named("names").Warn})
	s.own = selfaudit.Open(selfaudit.Config{
		Journal: s.journal, Node: cfg.Node, Now: cfg.Now, Log: cfg.Log, Metrics: metrics.NewOwnRecords(s.reg), Refusing: s.refusing,
		Names: s.names,
	})
	s.watch = &api.Watch{Record: s.own.Asked, Node: cfg.Node}
	if err := s.openPlugins(); err != nil {
		return nil, err
	}
	s.openSinks()
	if err := s.openHead(trust); err != nil {
		return nil, err
	}
	if err := s.openSeal(); err != nil {
		return nil, err
	}
	s.openCompaction()
	s.outgrown = &outgrown.Watcher{
		Journal: s.journal.Stats, Head: s.head.Stats, Log: cfg.Log, Now: cfg.Now,
		Needs: func() int64 { return s.space.TableBytes() + s.space.SegmentBytes() },
	}
	s.intake = intake.Open(intake.Config{
		Journal: s.journal, Space: s.space, Names: names, MaxInFlight: cfg.MaxTotal,
		Log: cfg.Log.Named("ingest"), Metrics: metrics.NewIntake(s.reg), Now: cfg.Now, Refused: s.recordsRefused,
	})
	if err := s.openText(); err != nil {
		return nil, err
	}
	if s.verified != nil {
		s.verified.Serve(s.intake, s.journal, s.store.ID())
		if s.seal != nil {
			s.verified.Witness(s.seal, func() string { return s.seal.Status().Public })
		}
	}
	if err := s.openAlerts(); err != nil {
		return nil, err
	}
	s.registerMetrics()
	s.openRoster()
	if err := s.openAPI(); err != nil {
		return nil, err
	}
	// Last: what is open now, the connections may not have.
	return s, s.setLimits(s.cfg.Limits)
}

// Addrs are the addresses that senders connect to.
func (s *Server) Addrs() (all []net.Addr) {
	for _, t := range s.transports {
		all = append(all, t.Addrs()...)
	}
	return all
}

// connections is how many senders are connected now.
func (s *Server) connections() (n int) {
	for _, t := range s.transports {
		n += t.Len()
	}
	return n
}

// HTTPAddr is where /metrics is served, nil when it is not.
func (s *Server) HTTPAddr() net.Addr {
	if s.httpLn == nil {
		return nil
	}
	return s.httpLn.Addr()
}

// Run serves until ctx is done and then stops in good order: no new connections,
// everything received is stored and acknowledged, senders are told ENDING, the
// events in memory are stored. It waits for that at most DrainTimeout, and not at
// all once hurry is done; then it returns ErrInterrupted.
func (s *Server) Run(ctx, hurry context.Context) error {
	s.serveAPI()
	s.serveHTTP()
	s.own.Start(s.cfg.Version)
	s.reload.Read(nil, s.cfg.Now())
	s.startWork()
	s.ready.Store(true)
	s.cfg.Log.Info("ready", "listen", addrs(s.Addrs()), "store", s.cfg.Store, "api", s.cfg.API, "http", s.HTTPAddr(), "flush", string(s.cfg.Flush))
	s.cfg.Service.Ready("receiving on " + addrs(s.Addrs()))
	stopWatchdog := s.cfg.Service.Watch(s.alive)
	accepting, ctx := errgroup.WithContext(ctx)
	for _, t := range s.transports {
		accepting.Go(func() error { return t.Run(ctx) })
	}
	err := accepting.Wait()
	s.ready.Store(false)
	stopWatchdog()
	s.cfg.Service.Stopping()
	if err == nil {
		s.cfg.Log.Info("stopping", "connections", s.connections())
	}
	done := make(chan error, 1)
	go func() { done <- s.stop(hurry) }()
	select {
	case stopErr := <-done:
		return errors.Join(err, stopErr)
	case <-hurry.Done():
		return errors.Join(err, ErrInterrupted)
	}
}

// startWork has the disk watched and old days dropped until the sessions have ended.
func (s *Server) startWork() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stopWork = cancel
	s.space.Begin(ctx)
	s.work.Go(func() { s.space.Run(ctx) })
	if s.trust != nil {
		s.work.Go(func() { _ = s.trust.Run(ctx) }) // ends with ctx
	}
	if s.enrol != nil {
		s.work.Go(func() { s.enrol.Watch(ctx, filepath.Join(s.cfg.Store, enroll.SeenFile)) })
	}
	s.work.Go(func() { s.retention.Run(ctx) })
	if s.compaction.store != nil {
		s.work.Go(func() { s.compaction.run(ctx) })
	}
	if s.seal != nil {
		s.work.Go(func() { s.seal.Run(ctx) })
	}
	s.work.Go(func() { s.sayHolds(ctx) })
	s.work.Go(func() { s.outgrown.Run(ctx) })
	s.work.Go(func() { s.alerts.Run(ctx) })
	s.work.Go(func() { s.rates.Run(ctx, s.head.Hosts) })
	if s.roster != nil {
		s.work.Go(func() { s.roster.Run(ctx) })
	}
}

func addrs(list []net.Addr) string {
	out := ""
	for i, a := range list {
		if i > 0 {
			out += ","
		}
		out += a.String()
	}
	return out
}

// stop ends the sessions and everything behind them, front to back.
func (s *Server) stop(hurry context.Context) error {
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		var sessions sync.WaitGroup
		for _, t := range s.transports {
			sessions.Go(t.Drain)
		}
		sessions.Wait()
	}()
	deadline := time.NewTimer(s.cfg.DrainTimeout)
	defer deadline.Stop()
	select {
	case <-drained:
	case <-deadline.C:
		s.cfg.Log.Warn("not all senders have their replies in time; what they were not acknowledged they send again",
			"waited", s.cfg.DrainTimeout, "connections", s.connections())
	case <-hurry.Done():
	}
	return s.Close()
}

// Close ends everything at once, in good order where nobody has to be waited
// for, and joins every goroutine.
func (s *Server) Close() error {
	s.once.Do(func() { s.err = s.release() })
	return s.err
}

// release closes what is open, in the reverse order of Open.
func (s *Server) release() error {
	var errs []error
	keep := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	for _, t := range s.transports {
		keep("end the sessions", t.Close())
	}
	if s.sessions != nil {
		keep("end the sessions", s.sessions.Close())
	}
	if s.intake != nil {
		keep("end the intake", s.intake.Close())
	}
	if s.stopWork != nil {
		s.stopWork()
		s.work.Wait()
	}
	if s.sinks != nil {
		keep("end the sinks of alerts", s.sinks.Close())
	}
	if s.watch != nil {
		s.watch.Close()
	}
	if s.own != nil {
		s.own.Close()
		keep("the list of holds", s.holds.settle())
		s.names.Close()
	}
	s.closeAPI()
	s.closeHTTP()
	if s.head != nil {
		keep("store the last events", s.head.Close())
	}
	if s.roster != nil {
		s.enter(true)
		keep("end the connections to other collectors", s.roster.Close())
	}
	if s.seal != nil {
		keep("sign the log of the store", s.lastCheckpoint())
	}
	if s.fanout != nil {
		keep("end the plugins", s.fanout.Close())
	}
	if s.journal != nil {
		keep("close the journal", s.journal.Close())
	}
	if s.store != nil {
		keep("close the store", s.store.Close())
	}
	if s.action != nil {
		keep("end the actions", s.action.Close())
	}
	s.served.Wait()
	return errors.Join(errs...)
}

// listenAPI binds the unix socket of queries, where that was not done.
func (s *Server) listenAPI() (err error) {
	if s.api == nil {
		s.api, s.apiGID, err = api.Listen(s.cfg.API, s.cfg.APIGroup, s.apiInStore())
	}
	return err
}

func (s *Server) apiInStore() bool { return filepath.Dir(s.cfg.API) == s.cfg.Store }

// openAPI, serveAPI and closeAPI are the query interface on the unix socket.
func (s *Server) openAPI() error {
	if err := s.listenAPI(); err != nil {
		return err
	}
	socket := api.Allowed{GID: s.apiGID}
	s.grpc = grpc.NewServer(api.ServerOptions(socket, s.watch.Authorizer(socket))...)
	service := &api.Service{Source: s.source(), State: s.status, Sealer: s.sealer(), Change: s.head.ChangeHosts, Holder: &live{s.head, s}, SearchText: render.Text, ReportText: render.Summary,
		ListAlerts: s.listAlerts, SendTest: s.testAlert}
	if s.roster != nil {
		service.Cluster = s.roster
	}
	service.Importer = s.openImports()
	service.MakeEvidence = (&live{s.head, s}).MakeEvidence
	s.watch.Register(s.grpc, service)
	if s.verified != nil { // the same service, so that its bounds hold for both together
		s.verified.Register(func(to grpc.ServiceRegistrar) { s.watch.Register(to, service) })
	}
	return nil
}

func (s *Server) serveAPI() {
	s.served.Add(1)
	go func() {
		defer s.served.Done()
		if err := s.grpc.Serve(descriptors.Limit(s.api, descriptors.Queries)); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			s.cfg.Log.Error("the query interface ended", "error", err)
		}
	}()
}

func (s *Server) closeAPI() {
	if s.grpc != nil {
		s.grpc.Stop()
	}
	if s.api != nil {
		_ = s.api.Close() // removes the socket
	}
}
