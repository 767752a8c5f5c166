package grpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"google.golang.org/grpc/credentials"

	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

// handshake is gRPC's credentials: TLS as Trust has it. What fails is counted, logged and
// told to Report.
type handshake struct {
	credentials.TransportCredentials
	all *Server
}

func newHandshake(s *Server) *handshake {
	config := s.cfg.Trust.Server("h2")
	if e := s.cfg.Enroll; e != nil {
		config = e.TLS(s.cfg.Trust.Server("h2", e.Renewal()))
	}
	return &handshake{credentials.NewTLS(config), s}
}

// peerInfo is what a stream knows of its connection.
type peerInfo struct {
	credentials.AuthInfo
	conn *conn
	id   pki.Identity
}

// Caller is the name that the peer has proved, by which its queries are bounded.
func (p peerInfo) Caller() string { return p.id.Name }

// Serial is the serial of the certificate by which it has.
func (p peerInfo) Serial() string { return p.id.Serial }

// ServerHandshake implements credentials.TransportCredentials. gRPC has set a deadline.
func (h *handshake) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := raw.(*conn)
	if !ok {
		return nil, nil, errors.New("not a connection of this listener")
	}
	out, info, err := h.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		h.all.unverified(c, err)
		return nil, nil, err
	}
	tlsInfo, ok := info.(credentials.TLSInfo)
	if !ok {
		return nil, nil, errors.Join(errors.New("a handshake without TLS"), out.Close())
	}
	if e := h.all.cfg.Enroll; e != nil && e.Mine(tlsInfo.State.NegotiatedProtocol) {
		// It counts as a handshake until it is over, and is bounded as these are.
		h.all.limit.close(c, metrics.ClosedByPeer)
		e.Serve(out, tlsInfo.State)
		return nil, nil, credentials.ErrConnDispatched
	}
	id, err := h.all.cfg.Trust.Identify(tlsInfo.State)
	if err != nil { // the handshake has taken it; it may have changed since
		h.all.unverified(c, err)
		return nil, nil, errors.Join(err, out.Close())
	}
	if !h.all.limit.established(c, id.Name) {
		err := fmt.Errorf("%s has %d connections open already", id.Name, h.all.cfg.Limits.MaxPerName)
		h.all.crowdedName(c, id.Name, err)
		return nil, nil, errors.Join(err, out.Close())
	}
	h.all.cfg.Metrics.Handshakes.Inc()
	if h.all.cfg.Begun != nil {
		h.all.cfg.Begun(Session{Peer: c.peer, Local: c.LocalAddr(), Name: id.Name, TLS: pki.SessionOf(tlsInfo.State)})
	}
	return out, peerInfo{tlsInfo, c, id}, nil
}

// ClientHandshake implements credentials.TransportCredentials: nobody calls it.
func (h *handshake) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("not a client's credentials")
}

// Clone implements credentials.TransportCredentials.
func (h *handshake) Clone() credentials.TransportCredentials { return h }

// Words for what ends a handshake beside what the peer shows.
const (
	reasonTimeout = "timeout"
	reasonCrowded = "crowded"
)

// Reasons are all words that Metrics.Failed is counted by.
func Reasons() (words []string) {
	for _, r := range pki.Reasons {
		words = append(words, string(r))
	}
	return append(words, reasonTimeout, reasonCrowded)
}

// errCrowded is why a handshake was ended for others' sake.
var errCrowded = errors.New("more handshakes were begun at once than are allowed in all, or from this address: the oldest was ended")

// unverified counts and says why a handshake has failed.
func (s *Server) unverified(c *conn, err error) {
	timeout := errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
	err = s.cfg.Trust.Explain(err)
	reason := string(pki.ReasonOf(err))
	switch {
	case s.limit.ended(c) == metrics.ClosedHandshake:
		reason, err = reasonCrowded, errCrowded
	case s.closing.Load() && reason == string(pki.Broken):
		s.cfg.Metrics.Failed.Add(reason, 1)
		return
	case timeout:
		reason = reasonTimeout
	}
	s.cfg.Metrics.Failed.Add(reason, 1)
	if ok, suppressed := s.noisy.Allow(); ok {
		s.cfg.Log.Warn("refused a TLS connection", "peer", c.peer.String(), "reason", reason, "error", err, "suppressed", suppressed)
	}
	s.report(Report{Op: "tls-" + reason, Peer: c.peer})
}

// crowdedName counts and says that a name has as many connections or streams as it may.
func (s *Server) crowdedName(c *conn, name string, err error) {
	s.cfg.Metrics.Refused.Add(metrics.RefusedDup, 1)
	if ok, suppressed := s.noisy.Allow(); ok {
		s.cfg.Log.Warn("refused a peer: its name has as much open as is allowed: one host has one name", "peer", c.peer.String(), "error", err, "suppressed", suppressed)
	}
	s.report(Report{Op: metrics.RefusedDup, Peer: c.peer, Name: name})
}

// denied counts and says that a peer which has proved its name may not do something, or may
// not any more.
func (s *Server) denied(c *conn, name, what string, err error) {
	reason := pki.NotAllowed
	if r := pki.ReasonOf(err); r != pki.Broken {
		reason = r
	}
	s.cfg.Metrics.Failed.Add(string(reason), 1)
	if ok, suppressed := s.noisy.Allow(); ok {
		s.cfg.Log.Warn(what, "name", name, "peer", c.peer.String(), "reason", string(reason), "error", err, "suppressed", suppressed)
	}
	s.report(Report{Op: "tls-" + string(reason), Peer: c.peer, Name: name})
}

// whatToDo says it of each reason why a connection is refused before its handshake.
var whatToDo = map[string]string{
	metrics.RefusedDup:   "its address has as many connections as grpc_max_per_addr (--grpc-max-per-addr) allows",
	metrics.RefusedLimit: "there are as many connections as max_connections (--max-connections), or the limit of open files, allows",
	metrics.RefusedProxy: "its address is in tls_proxy_protocol_from (--tls-proxy-protocol-from), so it must begin with a PROXY header that says " +
		"whose it is; have the proxy send one (send-proxy-v2 in haproxy), or take the address out",
}

// refused counts and says that a connection is beyond a limit, or a proxy's without a right header,
// for which there is a cause.
func (s *Server) refused(peer netip.AddrPort, reason string, cause error) {
	s.cfg.Metrics.Refused.Add(reason, 1)
	if ok, suppressed := s.noisy.Allow(); ok {
		args := []any{"peer", peer.String(), "suppressed", suppressed}
		if cause != nil {
			args = append(args, "cause", cause)
		}
		s.cfg.Log.Warn("refused a connection: "+whatToDo[reason], args...)
	}
	op := reason
	if reason == metrics.RefusedLimit {
		op = "alloc"
	}
	s.report(Report{Op: op, Peer: peer})
}

func (s *Server) report(r Report) {
	if s.cfg.Report != nil {
		s.cfg.Report(r)
	}
}
