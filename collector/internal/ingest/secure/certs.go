package secure

import (
	"crypto/tls"
	"errors"
	"net"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/proto/remote"
)

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

// Certificates is the Handshake of TLS 1.3 with certificates on both sides. enroll may be nil.
func Certificates(trust *pki.Trust, enroll Enroller) Handshake {
	mine := func(protocol string) bool { return enroll != nil && enroll.Mine(protocol) }
	may := func(id pki.Identity, protocol string) error {
		if mine(protocol) || id.Roles.Has(pki.Send) {
			return nil
		}
		return &pki.Refusal{Reason: pki.NotAllowed, Name: id.Name, Text: id.Name + " may not send records: its certificate has the roles " + id.Roles.String()}
	}
	config := trust.ServerFor(may, remote.ALPN)
	if enroll != nil {
		config = enroll.TLS(trust.ServerFor(may, remote.ALPN, enroll.Renewal()))
	}
	return func(under net.Conn) (net.Conn, *Peer, error) {
		c := tls.Server(under, config)
		if err := c.Handshake(); err != nil {
			err = trust.Explain(err)
			var refusal *pki.Refusal
			if errors.As(err, &refusal) && refusal.Name != "" {
				return nil, &Peer{Name: refusal.Name}, err
			}
			return nil, nil, err
		}
		state := c.ConnectionState()
		if mine(state.NegotiatedProtocol) {
			enroll.Serve(c, state)
			return nil, nil, errServed
		}
		id, err := trust.Identify(state)
		if err == nil {
			err = may(id, state.NegotiatedProtocol) // the handshake has taken it; the files may have changed since
		}
		if err != nil {
			return nil, &Peer{Name: id.Name}, err
		}
		return c, &Peer{
			Name: id.Name, Transport: event.TransportTLS,
			Session: pki.SessionOf(state),
			Hold:    func(cut func(error)) (func(), error) { return trust.Hold(id, cut) },
		}, nil
	}
}

// errServed is returned for a connection that was about a certificate, and is over.
var errServed = errors.New("the connection has been served")

// Reason is the word for an error of Certificates.
func Reason(err error) string { return string(pki.ReasonOf(err)) }
