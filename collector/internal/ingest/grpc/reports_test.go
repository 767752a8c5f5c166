package grpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/internal/testca"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// reports are what a server has told, for records.
type reports struct {
	mu   sync.Mutex
	list []string // guarded by mu
}

func (r *reports) add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, fmt.Sprintf(format, args...))
}

func (r *reports) has(t *testing.T, want string) {
	t.Helper()
	need.Wait(t, want, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return slices.Contains(r.list, want)
	})
}

func reporting(t *testing.T, l Limits) (*fixture, *reports) {
	r := &reports{}
	f := setupWith(t, l, func(c *Config) {
		c.Report = func(p Report) {
			if p.Op != "" {
				r.add("%s %q %s", p.Op, p.Name, p.Peer.Addr())
			}
		}
		c.Begun = func(s Session) {
			r.add("begun %s %s %s %d %s %s", s.Name, s.Peer.Addr(), s.TLS.Cipher, s.TLS.Bits, s.TLS.Group, s.TLS.Auth)
		}
	})
	return f, r
}

// What becomes of each connection is told, with the reason and the name that was proved: for
// the collector's own records.
func TestReports(t *testing.T) {
	t.Parallel()
	f, told := reporting(t, Limits{MaxStreams: 1})
	a := f.dial("web1")
	a.open(1, 0)
	a.want("opened 0")
	if said, ok := f.Said("web1"); !ok || len(said.Rules) != 0 || said.At.IsZero() {
		t.Errorf("%+v, %v", said, ok)
	}
	sum := make([]byte, rulesLen)
	a.put(&fleet.StreamRequest{Message: &fleet.StreamRequest_Beat{Beat: &fleet.Beat{Rules: sum}}})
	a.want("alive")
	if said, _ := f.Said("web1"); !slices.Equal(said.Rules, sum) {
		t.Errorf("%+v", said)
	}
	a.put(&fleet.StreamRequest{Message: &fleet.StreamRequest_Beat{Beat: &fleet.Beat{Rules: sum[1:]}}}) // no hash
	a.want("alive")
	if said, _ := f.Said("web1"); !slices.Equal(said.Rules, sum) {
		t.Errorf("%+v", said)
	}
	told.has(t, "begun web1 127.0.0.1 TLS_AES_128_GCM_SHA256 128 X25519MLKEM768 cert")
	f.dial("web1").want("ResourceExhausted")
	told.has(t, `dup "web1" 127.0.0.1`)

	// A host that sends may not read.
	_, err := fleet.NewQueryClient(f.connect("web2")).Hosts(context.Background(), &fleet.HostsRequest{})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("it reads: %v", err)
	}
	told.has(t, `tls-not-allowed "web2" 127.0.0.1`)

	if err := os.WriteFile(filepath.Join(f.dir, "denied"), []byte("web1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.want("Unavailable")
	told.has(t, `tls-revoked "web1" 127.0.0.1`)
	again, err := fleet.NewIngestClient(f.connect("web1")).Stream(context.Background())
	if err == nil {
		_, _ = again.Recv()
	}
	told.has(t, `tls-revoked "" 127.0.0.1`)

	// Strangers.
	trust, err := pki.Open(pki.Config{CA: f.ca.File})
	if err != nil {
		t.Fatal(err)
	}
	knock := func(change func(*tls.Config)) {
		t.Helper()
		cfg := trust.Client("localhost", "h2")
		change(cfg)
		if c, err := tls.Dial("tcp", f.Addrs()[0].String(), cfg); err == nil {
			_, _ = c.Read(make([]byte, 1))
			_ = c.Close()
		}
	}
	knock(func(*tls.Config) {})
	told.has(t, `tls-no-certificate "" 127.0.0.1`)
	cert, key := testca.New(t, t.TempDir()).Issue(t.TempDir(), nil, "web1")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	knock(func(c *tls.Config) {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	})
	told.has(t, `tls-unknown-ca "" 127.0.0.1`)
	knock(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 })
	told.has(t, `tls-old-protocol "" 127.0.0.1`)
	plain, err := net.Dial("tcp", f.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_, _ = plain.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	told.has(t, `tls-not-tls "" 127.0.0.1`)
}

// Handshakes that take too long, or are too many at once, have words of their own.
func TestReportsOfHandshakes(t *testing.T) {
	t.Parallel()
	f, told := reporting(t, Limits{MaxHandshakesPerAddr: 1, HandshakeTimeout: time.Second})
	for range 2 {
		c, err := net.Dial("tcp", f.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	told.has(t, `tls-crowded "" 127.0.0.1`)
	told.has(t, `tls-timeout "" 127.0.0.1`)
	need.Wait(t, "both are counted", func() bool {
		return f.value(`grpc_unverified_total{crowded}`) == 1 && f.value(`grpc_unverified_total{timeout}`) == 1
	})
}
