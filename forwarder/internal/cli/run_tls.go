package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/forwarder/internal/enroll"
	"github.com/auditfleet/auditfleet/forwarder/internal/ship/grpc"
	"github.com/auditfleet/auditfleet/forwarder/internal/ship/remote"
	"github.com/auditfleet/auditfleet/forwarder/internal/witness"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/psktls"
	protocol "github.com/auditfleet/auditfleet/proto/remote"
)

// How records are shipped.
const (
	transportTCP  = "tcp"
	transportTLS  = "tls"
	transportGRPC = "grpc"
)

// secure has a transport connect over TLS where that is asked for, and returns who is known
// then by certificate; nil where nobody is.
func (o *runFlags) secure(t *remote.Transport, rc *conf.Remote, given func(string) bool, logger hclog.Logger) (*pki.Trust, error) {
	named := o.tls.CA != "" || o.tls.Cert != "" || o.tls.Key != ""
	kind := string(rc.Transport)
	if given("transport") {
		kind = o.transport
	}
	switch {
	case o.sealKeys != "":
		return nil, command.Wrongf("--seal-keys is of use with --transport grpc only: by the audisp-remote protocol no collector says anything signed of its log")
	case kind != transportTLS && named:
		return nil, command.Wrongf("--tls-ca, --tls-cert and --tls-key are of use with --transport tls and grpc only: records would go in clear text")
	case kind != transportTLS:
		return nil, nil
	case !named && (rc.TLS.PSKFile != "" || rc.TLS.PSKIdentity != ""):
		return nil, preShared(t, rc.TLS)
	case !named && !given("transport"):
		return nil, fmt.Errorf("--remote-config: %s: transport = tls needs tls_psk_file and tls_psk_identity, or --tls-ca, --tls-cert and --tls-key", o.remoteConfig)
	}
	trust, err := o.trust(logger)
	if err != nil {
		return nil, err
	}
	plain := *t
	t.Connect = func(ctx context.Context, server string) (net.Conn, error) {
		if err := trust.Reload(); err != nil { // what was read before stays in use
			logger.Warn("the files for TLS can't be read again", "error", err)
		}
		c, err := plain.Open(ctx, server)
		if err != nil {
			return nil, err
		}
		secured := tls.Client(c, trust.Client(pki.ServerOf(server), protocol.ALPN))
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(trust.Explain(err), c.Close())
		}
		return remote.Secure(secured, pki.ServerOf(server), trust.Explain)
	}
	return trust, nil
}

// renew returns what renews this host's certificate while the agent runs, nil where there is
// none.
func (o *runFlags) renew(trust *pki.Trust, servers []string, logger hclog.Logger) func(context.Context) {
	if trust == nil {
		return nil
	}
	r := &enroll.Renewer{Trust: trust, Cert: o.tls.Cert, Key: o.tls.Key, Servers: servers, Log: logger.Named("tls")}
	return r.Run
}

// preShared has a transport connect over TLS with a pre-shared key. The key's file is read
// again before each connection.
func preShared(t *remote.Transport, s psktls.Settings) error {
	if _, err := s.Client(); err != nil {
		return fmt.Errorf("--remote-config: %w", err)
	}
	plain := *t
	t.Connect = func(ctx context.Context, server string) (net.Conn, error) {
		config, err := s.Client()
		if err != nil {
			return nil, err
		}
		c, err := plain.Open(ctx, server)
		if err != nil {
			return nil, err
		}
		secured := psktls.Client(c, config)
		if err := secured.Handshake(ctx); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return remote.Secure(secured, "psk:"+s.PSKIdentity, func(err error) error { return err })
	}
	return nil
}

// trust reads the files by which collector and host know each other.
func (o *runFlags) trust(logger hclog.Logger) (*pki.Trust, error) {
	for _, f := range []struct{ name, path string }{{"tls-ca", o.tls.CA}, {"tls-cert", o.tls.Cert}, {"tls-key", o.tls.Key}} {
		if f.path == "" {
			return nil, command.Wrongf("TLS needs --%s: `collector ca issue` makes the files; with pre-shared keys it needs tls_psk_file and tls_psk_identity in --remote-config", f.name)
		}
	}
	cfg := o.tls
	cfg.Logger = logger.Named("tls")
	return pki.Open(cfg)
}

// openGRPC returns the transport, which reads the certificates again by itself: the same one
// while their files have the same names.
func (o *runFlags) openGRPC(logger hclog.Logger) (*grpc.Transport, error) {
	if o.format == conf.FormatASCII {
		return nil, command.Wrongf("--format ascii: records over grpc have no format; leave it out")
	}
	if o.witness == nil {
		w, err := witness.New(witness.Config{Spool: o.spoolDir, Keys: o.sealKeys, Log: logger.Named("witness")})
		if err != nil {
			return nil, fmt.Errorf("--seal-keys: %w", err)
		}
		o.witness = w
	} else if err := o.witness.Reload(); err != nil {
		return nil, fmt.Errorf("--seal-keys: %w", err)
	}
	if o.grpc != nil && o.grpcTLS.CA == o.tls.CA && o.grpcTLS.Cert == o.tls.Cert && o.grpcTLS.Key == o.tls.Key {
		return o.grpc, nil
	}
	trust, err := o.trust(logger)
	if err != nil {
		return nil, err
	}
	o.grpc, o.grpcTrust, o.grpcTLS = &grpc.Transport{Trust: trust, Witness: o.witness}, trust, o.tls
	return o.grpc, nil
}
