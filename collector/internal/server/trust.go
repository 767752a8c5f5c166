package server

import (
	"errors"
	"fmt"

	"github.com/auditfleet/auditfleet/collector/internal/enroll"
	"github.com/auditfleet/auditfleet/collector/internal/ingest/secure"
	"github.com/auditfleet/auditfleet/collector/internal/selfaudit"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/pki/authority"
)

// openTrust reads who is known by which certificate, where a transport with TLS is asked for.
func (s *Server) openTrust() (err error) {
	if s.cfg.PSK != nil {
		if s.psk, err = secure.OpenPSK(*s.cfg.PSK); err != nil {
			return err
		}
	}
	if len(s.cfg.ListenTLS) == 0 && len(s.cfg.GRPC) == 0 {
		if s.cfg.TLS.CA != "" || s.cfg.TLS.Cert != "" || s.cfg.TLS.Key != "" {
			s.cfg.Log.Warn("tls_ca, tls_cert and tls_key are of no use: nothing listens with TLS; give grpc (--grpc) or listen_tls (--listen-tls), or leave them out")
		}
		if len(s.cfg.Listen) == 0 {
			return errors.New("nothing to listen on: give --listen ADDR:PORT, --listen-tls or --grpc")
		}
		return nil
	}
	for _, f := range []struct{ name, path string }{{"tls-ca", s.cfg.TLS.CA}, {"tls-cert", s.cfg.TLS.Cert}, {"tls-key", s.cfg.TLS.Key}} {
		if f.path == "" {
			return fmt.Errorf("TLS needs --%s: `collector ca init` and `collector ca issue` make the files", f.name)
		}
	}
	cfg := s.cfg.TLS
	cfg.Logger, cfg.Now = s.cfg.Log.Named("tls"), s.cfg.Now
	if s.trust, err = pki.Open(cfg); err != nil {
		return err
	}
	return s.openEnrolment()
}

// openEnrolment opens the CA that hosts get certificates of, where one is named.
func (s *Server) openEnrolment() error {
	if s.cfg.EnrollCA == "" {
		return nil
	}
	ca, err := authority.Open(authority.Config{Dir: s.cfg.EnrollCA})
	if err != nil {
		return fmt.Errorf("enroll_ca: %w", err)
	}
	if err := s.trust.Verifies(ca.Certificate()); err != nil {
		return fmt.Errorf("enroll_ca: hosts that enrol know the collector by that CA, and it has not issued tls_cert: %w", err)
	}
	s.enrol = enroll.New(enroll.Config{CA: ca, Trust: s.trust, Log: s.cfg.Log.Named("enroll"), Report: s.recordEnrolment})
	return nil
}

// recordEnrolment stores what has become of a certificate or a token.
func (s *Server) recordEnrolment(ev enroll.Event) {
	if ev.Peer.IsValid() && ev.Reason == "" {
		s.own.Session(ev.Peer, ev.Local, ev.Host, ev.Session)
	}
	s.own.Certificate(selfaudit.Certificate{
		Op: ev.Op, Host: ev.Host, Token: ev.Token, Serial: ev.Serial, Fingerprint: ev.Fingerprint, Peer: ev.Peer, Reason: ev.Reason,
	})
}

// enroller is what gives hosts certificates; nil where nothing does.
func (s *Server) enroller() secure.Enroller {
	if s.enrol == nil {
		return nil
	}
	return s.enrol
}

// reloadTrust takes over who may do what, and reads the files again.
func (s *Server) reloadTrust(cfg *Config) error {
	if s.psk != nil && cfg.PSK != nil { // to begin or end with it takes a restart
		if err := s.psk.Reload(*cfg.PSK); err != nil {
			return err
		}
	}
	if s.trust == nil {
		return nil
	}
	if err := s.trust.SetRules(cfg.TLS.Rules); err != nil {
		return err
	}
	return s.trust.Reload()
}

// accepted is how many connections there were, ever.
func (s *Server) accepted() (n uint64) {
	for _, t := range []*textListener{s.clear, s.secured} {
		if t != nil {
			n += t.Accepted()
		}
	}
	if s.verified != nil {
		n += s.verified.Accepted()
	}
	return n
}
