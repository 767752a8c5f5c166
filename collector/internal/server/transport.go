package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/descriptors"
	"github.com/auditfleet/auditfleet/collector/internal/ingest/remote"
	"github.com/auditfleet/auditfleet/collector/internal/ingest/secure"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/listen"
	"github.com/auditfleet/auditfleet/collector/internal/trusted"
	"github.com/auditfleet/auditfleet/pkg/event"
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

// textListener takes connections of the audisp-remote protocol, in clear text or over TLS.
// All of them have the same sessions. It is bound before the journal is replayed, since a
// port in use is to be known at once; serve is set once there is an intake.
type textListener struct {
	*listen.Listener
	s     *Server
	serve func(*listen.Conn)
	most  atomic.Int64 // connections that there may be
}

// free is how many more connections there may be.
func (t *textListener) free() int { return int(t.most.Load()) - t.Len() }

// limit sets the limits of what comes from now on.
func (t *textListener) limit(l listen.Limits) error {
	t.most.Store(int64(l.MaxConns))
	return t.SetLimits(l)
}

// listenText binds addresses.
func (s *Server) listenText(addrs []string, name string, overTLS bool) (*textListener, error) {
	report, limits := s.connection, s.cfg.Limits
	if overTLS { // a connection is one once it is proved whose; what is refused is said in any case
		limits.Trusts = nil // it is of senders in clear text
		report = func(r listen.Report) {
			if r.Op != "" {
				s.connection(r)
			}
		}
	}
	l, err := listen.Open(listen.Config{
		Addrs: addrs, Backlog: s.cfg.Backlog, Limits: limits,
		Log: s.cfg.Log.Named(name), Metrics: s.listenMetrics, Report: report,
	})
	if err != nil {
		return nil, err
	}
	t := &textListener{Listener: l, s: s}
	s.transports = append(s.transports, t)
	return t, nil
}

// bindText binds what Config asks for.
func (s *Server) bindText() (err error) {
	s.listenMetrics = metrics.NewListen(s.reg)
	if len(s.cfg.Listen) > 0 {
		if s.clear, err = s.listenText(s.cfg.Listen, "listen", s.psk != nil); err != nil {
			return err
		}
	}
	if len(s.cfg.ListenTLS) > 0 {
		if s.secured, err = s.listenText(s.cfg.ListenTLS, "listen_tls", true); err != nil {
			return err
		}
	}
	return nil
}

// openText has the connections read, once there is an intake.
func (s *Server) openText() (err error) {
	s.sessions, err = remote.Open(remote.Config{
		Intake: s.intake, MaxInFlight: s.cfg.MaxInFlight,
		Log: s.cfg.Log.Named("ingest"), Metrics: metrics.NewRemote(s.reg), Now: s.cfg.Now,
	})
	if err != nil {
		return fmt.Errorf("open the pollers: %w", err)
	}
	var count *metrics.TLS
	if s.psk != nil || s.secured != nil {
		count = metrics.NewTLS(s.reg, secure.Reasons()...)
	}
	switch {
	case s.clear == nil:
	case s.psk != nil:
		over := s.secureText(s.clear, s.psk.Handshake, secure.PSKReason, count)
		s.clear.serve = func(c *listen.Conn) { over.Serve(c) }
	default:
		s.clear.serve = func(c *listen.Conn) {
			s.sessions.Serve(c, journal.Sender{Addr: c.Peer(), Transport: event.TransportTCP})
		}
	}
	if s.secured != nil {
		over := s.secureText(s.secured, secure.Certificates(s.trust, s.enroller()), secure.Reason, count)
		s.secured.serve = func(c *listen.Conn) { over.Serve(c) }
	}
	return nil
}

// secureText does the handshakes of the audisp-remote protocol over TLS.
func (s *Server) secureText(t *textListener, do secure.Handshake, reason func(error) string, count *metrics.TLS) *secure.Server {
	return secure.New(secure.Config{
		Handshake: do, Reason: reason, Free: t.free, Sessions: s.sessions, Log: s.cfg.Log.Named("tls"),
		Refused: func(c remote.Conn, name, reason string) {
			count.Refused.Add(reason, 1)
			s.refused(c.Peer(), name, "tls-"+reason)
		},
		Begun: func(c remote.Conn, p *secure.Peer) {
			count.Sessions.Inc()
			s.connection(listen.Report{Peer: c.Peer()})
			s.own.Session(c.Peer(), p.Local, p.Name, p.Session)
		},
		Ended: func(c remote.Conn) { s.connection(listen.Report{Peer: c.Peer(), Close: true}) },
	})
}

// Run implements transport.
func (t *textListener) Run(ctx context.Context) error {
	t.Listener.Run(ctx, t.serve)
	return nil
}

// Drain implements transport.
func (t *textListener) Drain() {
	t.s.sessions.End()
	t.Wait()
}

// Close implements transport.
func (t *textListener) Close() error {
	if t.s.sessions != nil {
		t.s.sessions.Abort()
	}
	return t.Listener.Close()
}

// readTrusted reads who may use which names, and sets the limits by it.
func readTrusted(cfg *Config) (*trusted.Senders, error) {
	list, err := trusted.Read(cfg.TrustedSenders)
	switch {
	case err != nil || !cfg.RefuseUntrusted:
		return list, err
	case list == nil:
		return nil, errors.New("untrusted_senders is refuse, but trusted_senders names no file: name one, or leave untrusted_senders out")
	}
	cfg.Limits.Trusts = list.Knows
	return list, nil
}

// mayName is what the head asks about names; nil where everybody is trusted, so that nothing
// is asked for each record.
func mayName(list *trusted.Senders) func(string, netip.Addr) bool {
	if list == nil {
		return nil
	}
	return list.Allows
}

// ownAddrs is how long the addresses of this machine are taken for what they were.
const ownAddrs = time.Minute

// ownAddr is what the head asks about who uses the collector's own name: whether an address is this
// machine's, whose forwarder may have the same name. The head calls it with its lock held.
func ownAddr(now func() time.Time) func(netip.Addr) bool {
	var own map[netip.Addr]bool
	var at time.Time
	return func(a netip.Addr) bool {
		a = a.Unmap().WithZone("")
		if a.IsLoopback() {
			return true
		}
		if t := now(); own == nil || t.Sub(at) > ownAddrs || t.Before(at) {
			own, at = map[netip.Addr]bool{}, t
			list, _ := net.InterfaceAddrs() // none are known then
			for _, one := range list {
				if p, err := netip.ParsePrefix(one.String()); err == nil {
					own[p.Addr().WithZone("")] = true
				}
			}
		}
		return own[a]
	}
}

// proxiesOf says whether an address is a proxy's; nil: none is.
func proxiesOf(list []netip.Prefix) func(netip.Addr) bool {
	if len(list) == 0 {
		return nil
	}
	return func(a netip.Addr) bool { return trusted.In(list, a) }
}

// setLimits bounds the connections of each listener to what the limit of open files leaves,
// and has them keep the limits, and s.cfg's of gRPC and of proxies, from now on.
func (s *Server) setLimits(l listen.Limits) (err error) {
	if len(s.cfg.Proxies) > 0 && s.clear == nil {
		s.cfg.Log.Warn("proxy_protocol_from is of no use: it is about listen (--listen), which is empty")
	}
	if len(s.cfg.TLSProxies) > 0 && s.secured == nil && s.verified == nil {
		s.cfg.Log.Warn("tls_proxy_protocol_from is of no use: it is about listen_tls and grpc (--listen-tls, --grpc), which are empty")
	}
	if l.MaxConns == 0 {
		l.MaxConns = listen.DefaultMaxConns
	}
	var list []descriptors.Listener
	var set []func(own listen.Limits) error
	add := func(name string, each int, limit func(listen.Limits) error) {
		list = append(list, descriptors.Listener{Name: name, Asked: l.MaxConns, Each: each})
		set = append(set, limit)
	}
	if s.clear != nil {
		add("listen", s.filesOfClear(), func(own listen.Limits) error {
			own.Proxy = proxiesOf(s.cfg.Proxies)
			if s.psk != nil { // who has a key is no sender in clear text
				own.Trusts = nil
			}
			return s.clear.limit(own)
		})
	}
	if s.secured != nil {
		add("listen_tls", secure.Descriptors, func(own listen.Limits) error {
			if s.enrol != nil {
				own.MaxPerAddr = max(1, own.MaxPerAddr) + 1 // a host renews its certificate beside its records
			}
			own.Trusts, own.Proxy = nil, proxiesOf(s.cfg.TLSProxies)
			return s.secured.limit(own)
		})
	}
	if s.verified != nil {
		add("grpc", 1, func(own listen.Limits) error {
			s.verified.SetLimits(s.grpcLimits(own.MaxConns))
			return nil
		})
	}
	if len(list) == 0 {
		return nil
	}
	may, err := descriptors.ForSenders(list, s.store.MayOpen()-s.descriptors(), s.cfg.Log)
	if err != nil {
		return err
	}
	for i, limit := range set {
		own := l
		own.MaxConns = may[i]
		if err := limit(own); err != nil {
			return err
		}
	}
	return nil
}

// descriptors is how many files the connections have open that there are now.
func (s *Server) descriptors() (n int) {
	if s.clear != nil {
		n += s.filesOfClear() * s.clear.Len()
	}
	if s.secured != nil {
		n += secure.Descriptors * s.secured.Len()
	}
	if s.verified != nil {
		n += s.verified.Len()
	}
	return n
}

// filesOfClear is how many files a connection of s.clear takes, which may be TLS with
// pre-shared keys.
func (s *Server) filesOfClear() int {
	if s.psk != nil {
		return secure.Descriptors
	}
	return 1
}
