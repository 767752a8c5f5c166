package pki

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"time"
)

// WithAnonymous changes a configuration of Server: who offers only the application protocol
// given needs no certificate, and gets the certificate of ca behind ours, by which it knows
// us (PinnedClient). Whoever serves that protocol must take its peers for strangers.
func (t *Trust) WithAnonymous(c *tls.Config, protocol string, ca *x509.Certificate) *tls.Config {
	c = c.Clone()
	known := c.GetConfigForClient
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		cfg, err := known(hello)
		if err != nil || !slices.Equal(hello.SupportedProtos, []string{protocol}) {
			return cfg, err
		}
		cfg.NextProtos, cfg.ClientAuth, cfg.VerifyConnection = []string{protocol}, tls.NoClientCert, nil
		own := cfg.Certificates[0]
		own.Certificate = append(slices.Clone(own.Certificate), ca.Raw)
		cfg.Certificates[0] = own
		return cfg, nil
	}
	return c
}

// Verifies reports, with a *Refusal, whether our own certificate is one of the CA given.
func (t *Trust) Verifies(ca *x509.Certificate) error {
	s := t.current.Load()
	if s.pair == nil {
		return s.noCertificate(nil)
	}
	chain := []*x509.Certificate{}
	for _, der := range s.pair.tls.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		chain = append(chain, c)
	}
	_, err := onlyCA(ca).chains(chain, x509.ExtKeyUsageServerAuth, t.cfg.Now())
	return err
}

// onlyCA is what is known to who knows one CA.
func onlyCA(ca *x509.Certificate) *snapshot {
	s := &snapshot{cas: []*x509.Certificate{ca}, pool: x509.NewCertPool()}
	s.pool.AddCert(ca)
	return s
}

// PinnedClient returns the configuration of a client that has no certificate and knows its
// server by its name and by the fingerprint of the server's CA, whose certificate the server
// sends. PinnedCA then returns that.
func PinnedClient(server, fingerprint, protocol string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519},
		NextProtos: []string{protocol}, SessionTicketsDisabled: true, ServerName: server,
		InsecureSkipVerify: true, // VerifyConnection verifies
		VerifyConnection: func(cs tls.ConnectionState) error {
			ca := PinnedCA(cs, fingerprint)
			if ca == nil {
				return refuse(UnknownCA, nil, "the server at %s does not know the CA of the token (SHA-256 %s): it is another server, somebody is between, or its CA was made anew; do not use the token again", server, fingerprint)
			}
			return onlyCA(ca).server(cs.PeerCertificates, server, time.Now())
		},
	}
}

// PinnedCA returns the CA certificate with a fingerprint among those that a server sent, nil
// if it sent none.
func PinnedCA(cs tls.ConnectionState, fingerprint string) *x509.Certificate {
	for _, c := range cs.PeerCertificates {
		if c.IsCA && Fingerprint(c) == fingerprint {
			return c
		}
	}
	return nil
}

// Explain says of an error of a PinnedClient what Trust.Explain says of others.
func Explain(err error) error {
	t := &Trust{cfg: Config{Now: time.Now}}
	t.current.Store(&snapshot{})
	return t.Explain(err)
}
