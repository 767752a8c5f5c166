// Package secure carries the audisp-remote protocol over TLS: it does the handshake of a
// connection that package listen has accepted, and gives its plain bytes to the sessions
// of ingest/remote, which do not know of it. The server's wiring is the only one to
// import it.
//
// A session reads and writes one end of a pair of sockets. Two goroutines copy between
// the other end and the TLS connection, so what the sessions and the listener bound
// (frames, replies, idle time) is bounded alike. Each costs four descriptors.
//
// What a stranger can have done is bounded here: the time of a handshake runs from the
// accepted connection on, and of more than MaxHandshakes at once, or MaxPerAddr of one
// address, the oldest is ended.
package secure

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/ingest/remote"
	"github.com/auditfleet/auditfleet/collector/internal/ingest/shaking"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/seldom"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

// Defaults of Config.
const (
	DefaultMaxHandshakes = 1024
	DefaultMaxPerAddr    = 64 // several hosts may be behind one
	DefaultTimeout       = 10 * time.Second
)

// Descriptors is how many descriptors a connection takes.
const Descriptors = 4

// Peer is who is at the other end, once the handshake is done.
type Peer struct {
	Name      string // that it has proved
	Transport event.Transport
	Session   pki.Session
	Local     net.Addr // the end of the connection that is ours; Serve sets it
	// Hold watches over the peer: cut is called when it is no longer allowed. Release
	// ends that. nil: nothing watches.
	Hold func(cut func(error)) (release func(), err error)
}

// Handshake does the server's part of a handshake on a connection whose deadline is set.
// The error says for an administrator what is wrong; Reason gives it a word. With an error
// there may be a Peer of which only the name is set, which it has proved.
type Handshake func(net.Conn) (net.Conn, *Peer, error)

// Sessions are ingest/remote's.
type Sessions interface {
	Serve(c remote.Conn, from journal.Sender)
}

// Config is what a Server is made of. All of it is needed but what has a default.
type Config struct {
	Handshake Handshake
	Sessions  Sessions
	// Refused is told of each handshake that failed, with the word for it, and of each peer
	// that is cut off, with the name that it has proved; Begun of each handshake that did not
	// fail, and Ended of its end. They must not block.
	Refused func(c remote.Conn, name, reason string)
	Begun   func(c remote.Conn, p *Peer)
	Ended   func(c remote.Conn)
	// Free is how many more connections there may be.
	Free func() int
	// Reason is the word for an error of Handshake, as a counter has it.
	Reason        func(error) string
	Log           hclog.Logger
	MaxHandshakes int           // DefaultMaxHandshakes when 0
	MaxPerAddr    int           // of them of one address; DefaultMaxPerAddr when 0
	Timeout       time.Duration // of a handshake; DefaultTimeout when 0
}

// Server serves connections. Serve may be called by any number of goroutines.
type Server struct {
	cfg  Config
	said *seldom.Limiter

	shaking *shaking.Bound
}

// New returns a Server.
func New(cfg Config) *Server {
	if cfg.MaxHandshakes == 0 {
		cfg.MaxHandshakes = DefaultMaxHandshakes
	}
	if cfg.MaxPerAddr == 0 {
		cfg.MaxPerAddr = DefaultMaxPerAddr
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	return &Server{cfg: cfg, shaking: shaking.New(cfg.MaxHandshakes, cfg.MaxPerAddr), said: &seldom.Limiter{Now: time.Now, Burst: 10, Every: 10 * time.Second}}
}

// errCrowded is why a handshake was ended for others' sake.
var errCrowded = errors.New("more handshakes were begun at once than are allowed in all, or from this address: the oldest was ended")

// Serve handles a connection until it ends. It does not close it.
func (s *Server) Serve(c remote.Conn) {
	under, err := dup(c.Sock())
	if err != nil {
		s.cfg.Log.Error("a connection could not be taken over", "peer", c.Peer(), "error", err)
		return
	}
	defer func() { _ = under.Close() }()
	secured, peer, err := s.handshake(under, c.Peer().Addr())
	if errors.Is(err, errServed) {
		return
	}
	if err == nil && peer.Name == "" {
		err = errors.New("the peer has no name")
	}
	if err != nil {
		name := ""
		if peer != nil {
			name = peer.Name
		}
		s.refuse(c, name, err)
		return
	}
	peer.Local = under.LocalAddr()
	b, err := newBridge(c, secured)
	if err != nil {
		s.cfg.Log.Error("a connection could not be taken over", "peer", c.Peer(), "error", err)
		return
	}
	if peer.Hold != nil {
		release, err := peer.Hold(func(why error) {
			s.refuse(c, peer.Name, why)
			b.cut()
		})
		if err != nil {
			b.close()
			s.refuse(c, peer.Name, err)
			return
		}
		defer release()
	}
	s.cfg.Begun(c, peer)
	s.cfg.Sessions.Serve(b, journal.Sender{Verified: peer.Name, Addr: c.Peer(), Transport: peer.Transport})
	b.close()
	s.cfg.Ended(c)
}

// handshake is bounded in time, and in how many there are.
func (s *Server) handshake(under net.Conn, from netip.Addr) (net.Conn, *Peer, error) {
	_ = under.SetDeadline(time.Now().Add(s.cfg.Timeout)) // fails on a closed connection only
	place := s.shaking.Enter(from, s.cfg.Free(), func() { _ = under.SetDeadline(time.Unix(1, 0)) })
	secured, peer, err := s.cfg.Handshake(under)
	if !place.Leave() {
		return nil, nil, errCrowded
	}
	_ = under.SetDeadline(time.Time{})
	return secured, peer, err
}

// Words for what ends a handshake beside what the peer shows.
const (
	reasonTimeout = "timeout"
	reasonCrowded = "crowded"
)

// refuse counts and says why a peer is not served. name is "" for one that has proved none.
func (s *Server) refuse(c remote.Conn, name string, err error) {
	reason := reasonCrowded
	if !errors.Is(err, errCrowded) {
		reason = s.cfg.Reason(err)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		reason = reasonTimeout
	}
	s.cfg.Refused(c, name, reason)
	if ok, omitted := s.said.Allow(); ok {
		s.cfg.Log.Warn("refused a TLS connection: "+err.Error(), "peer", c.Peer(), "reason", reason, "others_not_named", omitted)
	}
}
