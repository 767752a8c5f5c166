package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/pki/authority"
	"github.com/auditfleet/auditfleet/proto/fleet"
	"github.com/auditfleet/auditfleet/proto/ingest"
)

const (
	idleForwarders = 1000
	// idleTime is how long they are watched: in it each has its keepalive ping, and the
	// collector whatever it does by the minute.
	idleTime = 2 * time.Minute
)

// idle shows what forwarders cost a collector that are connected by gRPC and send nothing.
func (b *bench) idle() error {
	b.printf("## Idle forwarders\n\nConnected by gRPC, with a certificate each and a stream opened, they send nothing. CPU is the collector's over %v.\n\n", idleTime)
	b.printf("| forwarders | memory before | with them | each | of a core |\n|---|---|---|---|---|\n")
	dir, err := b.scratch("idle")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	hosts, err := b.hostCertificates(dir, idleForwarders)
	if err != nil {
		return err
	}
	if err := b.idleOf(dir, hosts); err != nil {
		return err
	}
	b.printf("\n")
	return nil
}

// hostCertificates makes a CA, a certificate of the collector and one of each host.
func (b *bench) hostCertificates(dir string, n int) ([]tls.Certificate, error) {
	ca, err := authority.Init(b.ctx, authority.Config{Dir: filepath.Join(dir, "ca")}, "bench", 24*time.Hour)
	if err != nil {
		return nil, err
	}
	issue := func(name string) error {
		_, err := ca.Issue(b.ctx, authority.Request{Name: name, Roles: pki.Send, Life: time.Hour}, dir)
		return err
	}
	if err := issue("localhost"); err != nil {
		return nil, err
	}
	list := make([]tls.Certificate, n)
	for i := range list {
		name := fmt.Sprintf("host%04d", i)
		if err := issue(name); err != nil {
			return nil, err
		}
		if list[i], err = tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// idleOf measures a collector with one forwarder for each certificate.
func (b *bench) idleOf(dir string, hosts []tls.Certificate) error {
	return b.withServer(grpcServer(dir), func(_, addr string, p *harness.Proc) error {
		before, err := p.Usage()
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		pem, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
		if err != nil || !pool.AppendCertsFromPEM(pem) {
			return errors.Join(errors.New("no CA"), err)
		}
		for i, cert := range hosts {
			end, err := openIdle(b.ctx, i, addr, &tls.Config{MinVersion: tls.VersionTLS13, ServerName: "localhost", RootCAs: pool, Certificates: []tls.Certificate{cert}})
			if err != nil {
				return fmt.Errorf("forwarder %d of %d: %w", i+1, len(hosts), err)
			}
			defer end()
		}
		time.Sleep(15 * time.Second) // what connecting has left is done with
		begin, err := p.Usage()
		if err != nil {
			return err
		}
		time.Sleep(idleTime)
		after, err := p.Usage()
		if err != nil {
			return err
		}
		b.printf("| %s | %s | %s | %.1f KiB | %.2f %% |\n", count(len(hosts)), mib(before.RSS), mib(after.RSS),
			float64(after.RSS-before.RSS)/float64(len(hosts))/1024, 100*(after.CPU-begin.CPU).Seconds()/idleTime.Seconds())
		return nil
	})
}

// openIdle connects from the i-th address as a forwarder does, and opens a stream.
func openIdle(ctx context.Context, i int, addr string, config *tls.Config) (end func(), err error) {
	from := netip.AddrFrom4([4]byte{127, 1, byte(i / 250), byte(1 + i%250)})
	client, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithIdleTimeout(0),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute, Timeout: 15 * time.Second}),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), KeepAlive: -1}).DialContext(ctx, "tcp", addr)
		}))
	if err != nil {
		return nil, err
	}
	stream, err := fleet.NewIngestClient(client).Stream(ctx)
	if err == nil {
		id := binary.BigEndian.AppendUint64([]byte("idlebench"), uint64(i+1))[1:] //nolint:gosec // small
		err = stream.Send(&fleet.StreamRequest{Message: &fleet.StreamRequest_Open{Open: &fleet.Open{Version: ingest.Version, StreamId: id, Oldest: 1}}})
	}
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return func() { _ = client.Close() }, nil
}
