// Package enroll answers hosts that want a certificate: strangers that show a token, and
// hosts whose certificate is valid and expires in some time. It speaks proto/enroll on
// connections whose TLS handshake is over; the transport that accepts them bounds how many
// there are. The collector's server wires it.
package enroll

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/seldom"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/pki/authority"
	"github.com/auditfleet/auditfleet/proto/enroll"
)

// timeout is for the whole of a request.
const timeout = 10 * time.Second

// Server answers with certificates of a CA.
type Server struct {
	Config
	seen seen
	// Of log lines: of what strangers do wrong, and of what fails here, which the first must not hide.
	theirs, ours seldom.Limiter
}

// Config is what a Server works with.
type Config struct {
	CA    *authority.CA
	Trust *pki.Trust // knows who renews
	Log   hclog.Logger
	// Report is told what has become of certificates and tokens; nil: nobody is. It must not
	// block.
	Report func(Event)
}

// New returns a server, which has nothing to be closed.
func New(cfg Config) *Server {
	s := &Server{Config: cfg}
	for _, l := range []*seldom.Limiter{&s.theirs, &s.ours} {
		l.Now, l.Burst, l.Every = time.Now, 5, 10*time.Second
	}
	return s
}

// complain logs what a peer that may be anybody has caused, and how much of it was left out.
func (s *Server) complain(limit *seldom.Limiter, peer, text string, err error) {
	if ok, left := limit.Allow(); ok {
		s.Log.Warn(text, "peer", peer, "reason", err, "omitted", left)
	}
}

// TLS adds both protocols to a configuration of Trust.Server.
func (s *Server) TLS(c *tls.Config) *tls.Config {
	return s.Trust.WithAnonymous(c, enroll.Token, s.CA.Certificate())
}

// Renewal returns the application protocol of hosts that have a certificate, to offer beside
// others with Trust.Server.
func (s *Server) Renewal() string { return enroll.Renew }

// Mine reports whether a connection, by the application protocol that its handshake agreed
// on, is Serve's.
func (s *Server) Mine(protocol string) bool {
	return protocol == enroll.Token || protocol == enroll.Renew
}

// Serve answers the one request of a connection and closes it. It returns within ten seconds.
func (s *Server) Serve(conn net.Conn, state tls.ConnectionState) {
	defer conn.Close()
	deadline := time.Now().Add(timeout)
	_ = conn.SetDeadline(deadline) // it fails on a closed connection only
	ctx, stop := context.WithDeadline(context.Background(), deadline)
	defer stop()
	peer := conn.RemoteAddr().String()
	var request enroll.Request
	if err := enroll.Read(conn, &request); err != nil {
		s.complain(&s.theirs, peer, "enrolment: no request came", err)
		s.report(conn, state, "", nil, errNoRequest)
		return
	}
	var cert *x509.Certificate
	var err error
	if state.NegotiatedProtocol == enroll.Renew {
		cert, err = s.renew(ctx, state, request.Request)
	} else {
		cert, err = s.CA.Redeem(ctx, request.Token, request.Request)
	}
	s.report(conn, state, request.Token, cert, err)
	var reply enroll.Reply
	if err != nil {
		reply.Error = told(err)
		limit := &s.theirs
		if reply.Error == ourFault {
			limit = &s.ours
		}
		s.complain(limit, peer, "enrolment: refused", err)
	} else {
		s.Log.Info("enrolment: a certificate was issued", "peer", peer, "host", cert.DNSNames[0], "serial", pki.Serial(cert.SerialNumber), "expires", cert.NotAfter.UTC().Format(time.RFC3339), "renewed", state.NegotiatedProtocol == enroll.Renew)
		reply.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	if err := enroll.Write(conn, &reply); err != nil {
		s.complain(&s.theirs, peer, "enrolment: the reply did not go out", err)
	}
}

// renew renews the certificate that the peer has proved to be its own.
func (s *Server) renew(ctx context.Context, state tls.ConnectionState, request []byte) (*x509.Certificate, error) {
	if _, err := s.Trust.Identify(state); err != nil {
		return nil, err
	}
	return s.CA.Renew(ctx, state.PeerCertificates[0], request)
}

// ourFault is what a peer is told of what failed here.
const ourFault = "the collector could not issue a certificate: its log has the reason; the token may be used up"

// told is what the peer is told: what is wrong with what it sent, and nothing of our files.
func told(err error) string {
	var refusal *pki.Refusal
	if errors.Is(err, authority.ErrToken) || errors.Is(err, authority.ErrRenew) || errors.Is(err, authority.ErrRequest) || errors.As(err, &refusal) {
		return err.Error()
	}
	return ourFault
}
