package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/auditfleet/auditfleet/collector/internal/descriptors"
	"github.com/auditfleet/auditfleet/collector/internal/ingest/remote"
	"github.com/auditfleet/auditfleet/collector/internal/listen"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// transport takes records in and hands them to the intake. The server runs a list of
// them: one more is one more element, opened in Open.
type transport interface {
	// Addrs are where its senders connect to.
	Addrs() []net.Addr
	// Len is how many of them are connected now, and Connected calls f with each.
	Len() int
	Connected(f func(netip.AddrPort))
	// Run accepts connections until ctx is done. When it returns nothing listens any
	// more, but sessions may go on.
	Run(ctx context.Context) error
	// Drain asks the sessions to end in good order, and waits until they have.
	Drain()
	// Close ends at once what there is, also where Run was never called, and joins.
	Close() error
}

// clearText is the audisp-remote protocol without encryption. It is opened in two steps,
// since a port in use is to be known before the journal is replayed.
type clearText struct {
	*listen.Listener
	sessions *remote.Sessions // nil before the second step
}

// listenClearText binds the addresses.
func (s *Server) listenClearText() (err error) {
	l, err := listen.Open(listen.Config{
		Addrs: s.cfg.Listen, Backlog: s.cfg.Backlog, Limits: s.cfg.Limits,
		Log: s.cfg.Log.Named("listen"), Metrics: metrics.NewListen(s.reg), Report: s.own.Connection,
	})
	if err != nil {
		return err
	}
	s.clear = &clearText{Listener: l}
	s.transports = append(s.transports, s.clear)
	return nil
}

// openClearText has the connections read, once there is an intake.
func (s *Server) openClearText() (err error) {
	s.clear.sessions, err = remote.Open(remote.Config{
		Intake: s.intake, MaxInFlight: s.cfg.MaxInFlight,
		Log: s.cfg.Log.Named("ingest"), Metrics: metrics.NewRemote(s.reg), Now: s.cfg.Now,
	})
	if err != nil {
		return fmt.Errorf("open the pollers: %w", err)
	}
	return nil
}

// Run implements transport.
func (c *clearText) Run(ctx context.Context) error {
	c.Listener.Run(ctx, func(conn *listen.Conn) { c.sessions.Serve(conn) })
	return nil
}

// Drain implements transport.
func (c *clearText) Drain() {
	c.sessions.End()
	c.Wait()
}

// Close implements transport.
func (c *clearText) Close() error {
	if c.sessions == nil {
		return c.Listener.Close()
	}
	c.sessions.Abort()
	return errors.Join(c.Listener.Close(), c.sessions.Close())
}

// bound lowers the limit of connections to what the limit of open files leaves.
func (s *Server) bound(l *listen.Limits) (err error) {
	if l.MaxConns == 0 {
		l.MaxConns = listen.DefaultMaxConns
	}
	l.MaxConns, err = descriptors.ForSenders(l.MaxConns, s.store.MayOpen()-s.connections(), s.cfg.Log)
	return err
}
