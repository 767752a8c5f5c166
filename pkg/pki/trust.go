package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Config says what a Trust is made from.
type Config struct {
	CA   string // file with the certificates of those CAs whose peers are known; required
	Cert string // file with our certificate, and those between it and its CA behind it
	Key  string // file with its key; both or none, none for a client without a certificate
	Deny string // deny list: a name, serial or fingerprint a line; optional
	CRL  string // certificate revocation lists, several in PEM or one in DER; optional

	Rules  Rules
	Logger hclog.Logger
	Now    func() time.Time // for tests; time.Now if nil
}

// Trust knows our certificate, the CAs of our peers and who is denied, as the files say at
// the moment. Any goroutine may call its methods.
type Trust struct {
	cfg     Config
	current atomic.Pointer[snapshot]

	reading sync.Mutex // one reads the files at a time; guards parts
	parts   []*part

	mu   sync.Mutex // guards held
	held map[*hold]struct{}
}

// Open reads the files. Each must be there and be right; later, a file that is wrong leaves
// in use what was read before.
func Open(cfg Config) (*Trust, error) {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	switch {
	case cfg.CA == "":
		return nil, errors.New("tls_ca is missing: the file with the CA certificates that peers are checked by")
	case cfg.Cert != "" && cfg.Key == "":
		return nil, fmt.Errorf("tls_key is missing: the file with the key of %s", cfg.Cert)
	case cfg.Cert == "" && cfg.Key != "":
		return nil, fmt.Errorf("tls_cert is missing: the file with the certificate that %s belongs to", cfg.Key)
	}
	rules, err := cfg.Rules.clean()
	if err != nil {
		return nil, err
	}
	t := &Trust{cfg: cfg, held: map[*hold]struct{}{}}
	t.parts = t.newParts()
	t.current.Store(&snapshot{rules: rules})
	if err := t.read(true); err != nil {
		return nil, err
	}
	t.warn(t.current.Load())
	return t, nil
}

// SetRules changes who may do what by name, also for sessions that are held.
func (t *Trust) SetRules(r Rules) error {
	r, err := r.clean()
	if err != nil {
		return err
	}
	t.reading.Lock()
	defer t.reading.Unlock()
	next := *t.current.Load()
	next.rules = r
	next.number++
	t.current.Store(&next)
	t.sweep()
	return nil
}

// Certificate returns our own certificate, nil if there is none.
func (t *Trust) Certificate() *x509.Certificate {
	if p := t.current.Load().pair; p != nil {
		return p.leaf
	}
	return nil
}

// CAs returns the certificates of the CAs whose peers are known.
func (t *Trust) CAs() []*x509.Certificate { return slices.Clone(t.current.Load().cas) }

// base returns what servers and clients have in common: TLS 1.3 only, a key exchange that a
// quantum computer does not break where the peer has it, and no resumption, so that each
// connection is checked in full.
func (t *Trust) base(alpn []string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		CurvePreferences:       []tls.CurveID{tls.X25519MLKEM768, tls.X25519},
		NextProtos:             alpn,
		SessionTicketsDisabled: true,
		Time:                   t.cfg.Now,
	}
}

// Server returns the configuration of a server with the application protocols alpn. Clients
// must have a certificate that Identify takes. It looks up everything at each handshake.
func (t *Trust) Server(alpn ...string) *tls.Config { return t.ServerFor(nil, alpn...) }

// ServerFor is Server for those whom may lets in, which is asked with what was agreed on of
// alpn. Who is refused is told so within the handshake, where a client looks for it.
func (t *Trust) ServerFor(may func(id Identity, protocol string) error, alpn ...string) *tls.Config {
	c := t.base(alpn)
	// Who clones the configuration and looks at it sees a server that verifies.
	c.ClientAuth = tls.RequireAndVerifyClientCert
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		s := t.current.Load()
		if s.pair == nil {
			return nil, errors.New("a TLS server needs a certificate: set tls_cert and tls_key")
		}
		c := t.base(alpn)
		c.Certificates = []tls.Certificate{*s.pair.tls}
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, s.pool
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			if len(cs.VerifiedChains) == 0 { // crypto/tls verifies first
				return s.noCertificate(nil)
			}
			id, err := s.verified(cs.PeerCertificates, cs.VerifiedChains)
			if err == nil && may != nil {
				err = may(id, cs.NegotiatedProtocol)
			}
			return err
		}
		return c, nil
	}
	return c
}

// Client returns the configuration of a client that calls a server by the name given, a
// host's name or an address: one that the server's certificate must have.
func (t *Trust) Client(server string, alpn ...string) *tls.Config {
	server = strings.TrimSuffix(strings.TrimPrefix(server, "["), "]")
	c := t.base(alpn)
	c.ServerName = server
	// The CAs of a client's configuration cannot change, so it is ours that verifies.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if server == "" {
			return errors.New("the name of the server is not known, so its certificate cannot be checked")
		}
		return t.current.Load().server(cs.PeerCertificates, server, t.cfg.Now())
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if p := t.current.Load().pair; p != nil {
			return p.tls, nil
		}
		return &tls.Certificate{}, nil
	}
	return c
}

// Identify returns who the client of a connection is, whose handshake is over. The error is
// a *Refusal.
func (t *Trust) Identify(cs tls.ConnectionState) (Identity, error) {
	return t.current.Load().identify(cs.PeerCertificates, t.cfg.Now())
}

// warn says what will keep our own certificate from being taken, which is no reason not to
// start: a clock that is not set yet may be.
func (t *Trust) warn(s *snapshot) {
	log := t.cfg.Logger
	if s.pair != nil {
		leaf, now := s.pair.leaf, t.cfg.Now()
		names := certificateFor(leaf)
		switch {
		case now.After(leaf.NotAfter):
			log.Warn("TLS: our own certificate has expired, peers will refuse it: renew it, or set the clock", "file", t.cfg.Cert, "for", names, "expired", stamp(leaf.NotAfter), "now", stamp(now))
		case now.Before(leaf.NotBefore):
			log.Warn("TLS: our own certificate is not valid yet, peers may refuse it: compare the clocks", "file", t.cfg.Cert, "for", names, "valid_from", stamp(leaf.NotBefore), "now", stamp(now))
		}
	}
	if s.revoked != nil {
		for _, text := range s.revoked.outdated {
			log.Warn("TLS: " + text)
		}
	}
}

// ServerOf returns the name to call a server by, for Client, of an address HOST:PORT.
func ServerOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}
