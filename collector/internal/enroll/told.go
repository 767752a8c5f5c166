package enroll

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"

	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/pki/authority"
	"github.com/auditfleet/auditfleet/proto/enroll"
)

// What an Event may be about.
const (
	Enrolled       = "enroll"             // a host got its certificate for a token
	Renewed        = "renew-certificate"  // a host got another one for its own
	TokenCreated   = "create-token"       // by command, as all that follow
	TokenRevoked   = "revoke-token"       //
	CertIssued     = "issue-certificate"  //
	CertRevoked    = "revoke-certificate" //
	EnrollRefused  = "enroll-refused"     // a stranger got none
	RenewalRefused = "renewal-refused"    // a host got no other one
)

// Event is what has become of a certificate or a token: for the collector's own records.
type Event struct {
	Op          string
	Host        string // "" for a stranger
	Token       string // its ID, which is no secret
	Serial      string
	Fingerprint string
	Peer        netip.AddrPort // not valid: it was done by command
	Local       net.Addr
	Session     pki.Session // of Enrolled and Renewed
	Reason      string      // of a refusal: a word
}

// report tells what has become of a request.
func (s *Server) report(conn net.Conn, state tls.ConnectionState, token string, cert *x509.Certificate, err error) {
	if s.Report == nil {
		return
	}
	renewal := state.NegotiatedProtocol == enroll.Renew
	ev := Event{Op: Enrolled, Session: pki.SessionOf(state), Local: conn.LocalAddr()}
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		ev.Peer = tcp.AddrPort()
	}
	if t, err := authority.ParseToken(token); err == nil {
		ev.Token = t.ID()
	}
	switch {
	case renewal && err == nil:
		ev.Op = Renewed
	case renewal:
		ev.Op, ev.Reason = RenewalRefused, reason(err)
		if id, err := s.Trust.Identify(state); err == nil {
			ev.Host = id.Name
		}
	case err != nil:
		ev.Op, ev.Reason = EnrollRefused, reason(err)
	default:
		ev.Session.Auth = pki.AuthToken
	}
	if err == nil {
		ev.Host, ev.Serial, ev.Fingerprint = cert.DNSNames[0], pki.Serial(cert.SerialNumber), pki.Fingerprint(cert)
		s.seen.add("certificate " + ev.Serial)
	}
	s.Report(ev)
}

// errNoRequest is for who has connected and asked for nothing that can be read.
var errNoRequest = errors.New("no request came")

// reason is a word for why there is no certificate.
func reason(err error) string {
	var token *authority.TokenError
	var refusal *pki.Refusal
	switch {
	case errors.Is(err, errNoRequest):
		return "no-request"
	case errors.As(err, &token):
		return "token-" + token.Reason
	case errors.As(err, &refusal):
		return string(refusal.Reason)
	case errors.Is(err, authority.ErrRequest):
		return "bad-request"
	case errors.Is(err, authority.ErrRenew):
		return "not-renewed"
	}
	return "failed"
}
