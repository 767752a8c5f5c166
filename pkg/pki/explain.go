package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"syscall"
)

// remoteAlert finds what the other end said. TLS alerts have no exported type in Go, and a
// library above TLS may have made the error a text.
var remoteAlert = regexp.MustCompile(`remote error: (tls: [a-z0-9 ]+)`)

// Explain returns what was wrong with a handshake, or with a first read after it, as a
// *Refusal that an administrator can act on. err is what crypto/tls returned, or a text that
// has it; Explain(nil) is nil. A client learns only after its handshake that it was refused:
// TLS 1.3 has the server check the client last.
func (t *Trust) Explain(err error) error {
	if err == nil {
		return nil
	}
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return refusal
	}
	s := t.current.Load()
	var invalid *tls.CertificateVerificationError
	if errors.As(err, &invalid) && len(invalid.UnverifiedCertificates) > 0 {
		return s.invalid(invalid.UnverifiedCertificates[0], invalid.Err, t.cfg.Now())
	}
	text := err.Error()
	if alert := remoteAlert.FindStringSubmatch(text); alert != nil {
		return t.alerted(strings.TrimSpace(alert[1]), err)
	}
	var header tls.RecordHeaderError
	switch {
	case strings.Contains(text, "didn't provide a certificate"):
		return s.noCertificate(err)
	case strings.Contains(text, "requested unsupported application protocols"):
		_, asked, _ := strings.Cut(text, "application protocols ")
		return refuse(OtherProtocol, err, "the peer asks for another protocol than this port's, for %s: compare the ports and the transports of both ends (grpc is for --transport grpc and --server, listen_tls for --transport tls)", clip(strings.Trim(asked, "()[]\"")))
	case strings.Contains(text, "local error: tls: missing extension"):
		return refuse(NoCertificate, err, "the peer wants to prove itself by a pre-shared key, which is for the ports of listen with transport = tls: here it needs a certificate")
	case strings.Contains(text, "missing selected ALPN property"):
		return refuse(OtherProtocol, err, "the other end does not speak gRPC on this connection: compare the ports and the transports of both ends (grpc is for --transport grpc and --server, listen_tls for --transport tls)")
	case strings.Contains(text, "only unsupported versions"), strings.Contains(text, "selected unsupported protocol version"):
		return refuse(OldProtocol, err, "the peer speaks no TLS 1.3, which is the only version here: update its TLS library, or allow TLS 1.3 there")
	case errors.As(err, &header), strings.Contains(text, "does not look like a TLS handshake"):
		return refuse(NotTLS, err, "the peer does not speak TLS: one end is set to TLS and the other one to clear text, or the port is another service's")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return refuse(Broken, err, "the peer did not answer in time: it hangs, or one end is set to TLS and the other one to clear text")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return refuse(Broken, err, "the peer closed the connection during the handshake: it has no room, or its port is for clear text; its log has the reason")
	}
	return refuse(Broken, err, "the handshake failed: %s", clip(text))
}

// alerted says what an alert of the other end means for who got it.
func (t *Trust) alerted(alert string, err error) *Refusal {
	s := t.current.Load()
	ours, issuer, ends := "our certificate", "its CA", ""
	if s.pair != nil {
		leaf := s.pair.leaf
		ours = "our certificate for " + certificateFor(leaf) + " (serial " + Serial(leaf.SerialNumber) + ")"
		issuer, ends = clip(leaf.Issuer.String()), stamp(leaf.NotAfter)
	}
	say := func(format string, args ...any) *Refusal { return refuse(PeerRefused, err, format, args...) }
	switch alert {
	case "tls: certificate required":
		return say("the other end wants a certificate, and we sent none: set tls_cert and tls_key")
	case "tls: expired certificate":
		return say("the other end refused %s: by its clock it has expired or is not valid yet (it ends at %s): renew it, or compare the clocks; its log has the details", ours, ends)
	case "tls: unknown certificate authority":
		return say("the other end refused %s: it does not trust %q: that CA must be in its tls_ca", ours, issuer)
	case "tls: bad certificate", "tls: revoked certificate", "tls: unsupported certificate", "tls: unknown certificate", "tls: access denied":
		return say("the other end refused %s (%s): it is revoked there, or its name may not do this, or it names no host; the log of the other end has the reason", ours, strings.TrimPrefix(alert, "tls: "))
	case "tls: protocol version not supported":
		return refuse(OldProtocol, err, "the other end does not speak TLS 1.3, which is the only version here: update its TLS library, or allow TLS 1.3 there")
	case "tls: handshake failure":
		return say("the other end found nothing in common with us: it takes pre-shared keys only, or its TLS has other algorithms; its log has the reason")
	case "tls: no application protocol":
		return say("the other end speaks another protocol on this port: compare the ports and the transports of both ends")
	}
	return say("the other end ended the handshake: %s; its log has the reason", strings.TrimPrefix(alert, "tls: "))
}
