package grpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/internal/testca"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/metrics/metricstest"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/proto/fleet"
	"github.com/auditfleet/auditfleet/proto/ingest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type disk struct{ err, low error }

func (d *disk) Admit(int64) error { return d.err }
func (d *disk) IsLow() bool       { return d.low != nil }
func (d *disk) Outcome(error)     {}

// fixture is a server on a real journal, whose disk is fs.
type fixture struct {
	*Server
	t     testing.TB
	dir   string
	ca    *testca.CA
	trust *pki.Trust
	fs    *faultfs.FS
	j     *journal.Journal
	in    *intake.Intake
	reg   *metrics.Registry
	log   need.Buffer

	stop func()

	mu     sync.Mutex
	stored []string         // guarded by mu: name/text of each record, in order
	taken  []*journal.Batch // guarded by mu
}

func setup(t testing.TB, l Limits) *fixture { return setupWith(t, l, func(*Config) {}) }

func setupWith(t testing.TB, l Limits, change func(*Config)) *fixture {
	t.Helper()
	return setupSealed(t, l, nil, change)
}

// setupSealed makes one whose store has a log.
func setupSealed(t testing.TB, l Limits, seal Seal, change func(*Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir(), fs: faultfs.New(1), reg: metrics.New()}
	f.ca = testca.New(t, f.dir)
	cert, key := f.ca.Issue(f.dir, nil, "localhost")
	deny := filepath.Join(f.dir, "denied")
	if err := os.WriteFile(deny, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	log := hclog.New(&hclog.LoggerOptions{Output: &f.log, Level: hclog.Debug})
	if f.trust, err = pki.Open(pki.Config{CA: f.ca.File, Cert: cert, Key: key, Deny: deny, Logger: log}); err != nil {
		t.Fatal(err)
	}
	if f.j, _, err = journal.Open(journal.Options{FS: f.fs, Dir: "/j"}); err != nil {
		t.Fatal(err)
	}
	if err := f.j.Start(journal.Resume{}, func(*journal.Batch) error { return nil }); err != nil {
		t.Fatal(err)
	}
	f.in = intake.Open(intake.Config{Journal: f.j, Space: &disk{}, Metrics: metrics.NewIntake(f.reg), Log: log})
	cfg := Config{Addrs: []string{"127.0.0.1:0"}, Trust: f.trust, Limits: l, Log: log, Metrics: metrics.NewGRPC(f.reg, Reasons()...)}
	change(&cfg)
	f.Server, err = Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.Serve(f.in, f.j, [16]byte{7})
	if seal != nil {
		f.Witness(seal, func() string { return "hub+key" })
	}
	f.Register(func(to rpc.ServiceRegistrar) { fleet.RegisterQueryServer(to, fleet.UnimplementedQueryServer{}) })
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.trust.Run(ctx) })
	wg.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		for {
			list, err := f.j.Take(context.Background(), 0)
			f.mu.Lock()
			for _, b := range list {
				f.taken = append(f.taken, b)
				for i := range b.Records {
					f.stored = append(f.stored, b.Sender.Verified+"/"+string(b.Records[i].Raw))
				}
			}
			f.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(f.Close(), f.in.Close(), f.j.Close()); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	t.Cleanup(f.stop)
	return f
}

func (f *fixture) value(series string) float64 {
	name, label, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
	return metricstest.Value(f.t, f.reg, "auditfleet_collector_"+name, label)
}

func (f *fixture) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.stored...)
}

// client is a connection of a sender with a certificate.
type client struct {
	fleet.Ingest_StreamClient
	f    *fixture
	conn *rpc.ClientConn
}

func (f *fixture) connect(name string) *rpc.ClientConn { return f.connectFrom("127.0.0.1", name) }

// connectFrom connects from an address of loopback.
func (f *fixture) connectFrom(addr, name string) *rpc.ClientConn {
	f.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	conn, err := rpc.NewClient("passthrough:///"+f.Addrs()[0].String(), rpc.WithTransportCredentials(credentials.NewTLS(f.config(name))), rpc.WithDisableRetry(),
		rpc.WithContextDialer(func(ctx context.Context, to string) (net.Conn, error) { return d.DialContext(ctx, "tcp", to) }))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// config is the TLS of a client that has a certificate for a name.
func (f *fixture) config(name string) *tls.Config {
	f.t.Helper()
	cert, key := f.ca.Issue(f.dir, nil, name)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		f.t.Fatal(err)
	}
	trust, err := pki.Open(pki.Config{CA: f.ca.File})
	if err != nil {
		f.t.Fatal(err)
	}
	cfg := trust.Client("localhost", "h2")
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return cfg
}

func (f *fixture) dial(name string) *client {
	f.t.Helper()
	return f.dialFrom("127.0.0.1", name)
}

func (f *fixture) dialFrom(addr, name string) *client {
	f.t.Helper()
	c := &client{f: f, conn: f.connectFrom(addr, name)}
	var err error
	if c.Ingest_StreamClient, err = fleet.NewIngestClient(c.conn).Stream(context.Background()); err != nil {
		f.t.Fatal(err)
	}
	return c
}

func (c *client) open(id byte, oldest uint64) {
	c.put(&fleet.StreamRequest{Message: &fleet.StreamRequest_Open{Open: &fleet.Open{Version: 1, Host: []byte("h"), StreamId: stream(id), Oldest: oldest}}})
}

func stream(id byte) []byte { return append(make([]byte, 15), id) }

func (c *client) put(m *fleet.StreamRequest) { _ = c.Send(m) }

func frame(t testing.TB, texts ...string) []byte {
	var raw []byte
	for _, s := range texts {
		raw = append(raw, 0, 0, 0)
		ingest.PutHead(raw[len(raw)-3:], len(s), 0)
		raw = append(raw, s...)
	}
	p, err := ingest.NewPacker()
	if err != nil {
		t.Fatal(err)
	}
	return p.Pack(nil, raw)
}

func (c *client) batch(first, skipped uint64, texts ...string) {
	c.put(&fleet.StreamRequest{Message: &fleet.StreamRequest_Batch{Batch: &fleet.RecordBatch{First: first, Skipped: skipped, Records: frame(c.f.t, texts...)}}})
}

// want waits for answers, in short: "opened 3", "stored 7", "refused 3-7 DISK_ERROR",
// "alive", "draining", or the code of the call's end. A stored that says less than the
// wanted one is passed over.
func (c *client) want(want ...string) {
	c.f.t.Helper()
	for _, w := range want {
		for {
			m, err := c.Recv()
			got := ""
			switch m := m.GetMessage().(type) {
			case nil:
				got = status.Code(err).String()
				if err != nil && err.Error() == "EOF" {
					got = "OK"
				}
			case *fleet.StreamResponse_Opened:
				got = fmt.Sprint("opened ", m.Opened.GetHeld())
			case *fleet.StreamResponse_Stored:
				got = fmt.Sprint("stored ", m.Stored.GetNext())
			case *fleet.StreamResponse_Refused:
				got = fmt.Sprintf("refused %d-%d %s", m.Refused.GetFirst(), m.Refused.GetNext(), strings.TrimPrefix(m.Refused.GetReason().String(), "REFUSAL_"))
			case *fleet.StreamResponse_Alive:
				got = "alive"
			case *fleet.StreamResponse_Draining:
				got = "draining"
			}
			if got != w && strings.HasPrefix(got, "stored") && strings.HasPrefix(w, "stored") {
				continue
			}
			if got != w {
				c.f.t.Fatalf("answered %q, want %q (%v)\n%s", got, w, err, c.f.log.String())
			}
			break
		}
	}
}

// Records are stored once, in order, under the name that was proved, whatever is sent twice
// and over which connection.
func TestOnce(t *testing.T) {
	t.Parallel()
	f := setup(t, Limits{})
	a := f.dial("web1")
	a.open(1, 0)
	a.batch(0, 0, "r0", "r1", "r2")
	a.batch(3, 2, "r5")
	a.put(&fleet.StreamRequest{Message: &fleet.StreamRequest_Beat{Beat: &fleet.Beat{}}})
	a.want("opened 0", "stored 6", "alive")
	_ = a.conn.Close()
	b := f.dial("web1")
	b.open(1, 1)
	b.want("opened 6")
	b.batch(1, 0, "r1", "r2")
	b.batch(5, 0, "r5", "r6")
	b.want("stored 7")
	b.open(2, 0) // another stream, over the same connection
	b.batch(0, 0, "s0")
	b.want("opened 0", "stored 1")
	other := f.dial("web2") // its name is another's, its stream ID not
	other.open(1, 0)
	other.batch(0, 0, "r0")
	other.want("opened 0", "stored 1")
	want := []string{"web1/r0", "web1/r1", "web1/r2", "web1/r5", "web1/r6", "web1/s0", "web2/r0"}
	need.Wait(t, "all are taken", func() bool { return len(f.all()) >= len(want) })
	if d := cmp.Diff(want, f.all()); d != "" {
		t.Error(d)
	}
	if got := f.taken[0].Sender; got.Transport != event.TransportGRPC || got.Verified != "web1" || !got.Addr.Addr().IsLoopback() {
		t.Errorf("the sender is %+v", got)
	}
	if v := f.value("grpc_batches_total"); v != 6 {
		t.Errorf("%v batches", v)
	}
	if err := b.CloseSend(); err != nil {
		t.Fatal(err)
	}
	b.want("OK")
	need.Wait(t, "nothing is in flight", func() bool { return f.value("inflight_bytes") == 0 })
}

// While the disk fails, a batch and those behind it are refused; then they are stored.
func TestRefused(t *testing.T) {
	t.Parallel()
	f := setup(t, Limits{})
	c := f.dial("web1")
	c.open(1, 5)
	c.batch(5, 0, "a")
	c.want("opened 0", "stored 6")
	f.fs.FailRange(faultfs.Write, 1, 1000, syscall.ENOSPC)
	c.batch(6, 0, "b")
	c.want("refused 6-7 DISK_FULL")
	f.fs.Heal()
	c.batch(7, 0, "c")
	c.want("refused 7-8 GAP")
	c.batch(6, 0, "b", "c")
	c.want("stored 8")
	need.Wait(t, "all are taken", func() bool { return len(f.all()) >= 3 })
	if d := cmp.Diff([]string{"web1/a", "web1/b", "web1/c"}, f.all()); d != "" {
		t.Error(d)
	}
	if v := f.value("grpc_gaps_total"); v != 1 {
		t.Errorf("%v gaps", v)
	}
}

// What is not as the service has it ends the stream, and nothing of it is stored.
func TestMalformed(t *testing.T) {
	t.Parallel()
	f := setup(t, Limits{})
	for name, c := range map[string]struct {
		send func(c *client)
		want []string
	}{
		"a batch first": {func(c *client) { c.batch(0, 0, "x") }, []string{"InvalidArgument"}},
		"another version": {func(c *client) {
			c.put(&fleet.StreamRequest{Message: &fleet.StreamRequest_Open{Open: &fleet.Open{Version: 2, StreamId: stream(1)}}})
		}, []string{"FailedPrecondition"}},
		"a short stream": {func(c *client) {
			c.put(&fleet.StreamRequest{Message: &fleet.StreamRequest_Open{Open: &fleet.Open{Version: 1, StreamId: []byte{1}}}})
		}, []string{"InvalidArgument"}},
		"a stream of zeroes": {func(c *client) { c.open(0, 0) }, []string{"InvalidArgument"}},
		"nothing in it":      {func(c *client) { c.put(&fleet.StreamRequest{}) }, []string{"InvalidArgument"}},
		"no frame": {func(c *client) {
			c.open(1, 0)
			c.put(&fleet.StreamRequest{Message: &fleet.StreamRequest_Batch{Batch: &fleet.RecordBatch{Records: []byte("type=EOE")}}})
		}, []string{"opened 0", "InvalidArgument"}},
		"a torn record": {func(c *client) {
			c.open(1, 0)
			p, _ := ingest.NewPacker()
			c.put(&fleet.StreamRequest{Message: &fleet.StreamRequest_Batch{Batch: &fleet.RecordBatch{Records: p.Pack(nil, []byte{9, 0, 0, 'x'})}}})
		}, []string{"opened 0", "InvalidArgument"}},
		"too far": {func(c *client) {
			c.open(1, 0)
			c.batch(0, 1<<40, "x")
		}, []string{"opened 0", "InvalidArgument"}},
		"too large": {func(c *client) {
			c.open(1, 0)
			c.put(&fleet.StreamRequest{Message: &fleet.StreamRequest_Batch{Batch: &fleet.RecordBatch{Records: make([]byte, 1<<20)}}})
		}, []string{"opened 0", "ResourceExhausted"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := f.dial("web1")
			c.send(s)
			got := c.want
			// The Opened may be lost with the end of the call.
			m, err := s.Recv()
			if len(got) == 2 && m != nil {
				_, err = s.Recv()
			}
			if code := status.Code(err).String(); code != got[len(got)-1] {
				t.Errorf("%v, want %s", err, got[len(got)-1])
			}
		})
	}
	if list := f.all(); len(list) > 0 {
		t.Errorf("stored: %q", list)
	}
	need.Wait(t, "nothing is in flight", func() bool { return f.value("inflight_bytes") == 0 && f.value("grpc_streams") == 0 })
}

// Another connection of the same stream ends the first one; one of another stream does not.
func TestReplaced(t *testing.T) {
	t.Parallel()
	f := setup(t, Limits{})
	a, b := f.dial("web1"), f.dial("web1")
	a.open(1, 0)
	a.want("opened 0")
	b.open(2, 0)
	b.want("opened 0")
	a.batch(0, 0, "x")
	a.want("stored 1")
	c := f.dial("web1")
	c.open(1, 0)
	c.want("opened 1")
	a.want("Aborted")
	b.batch(0, 0, "y")
	b.want("stored 1")
}

// Who is put on the deny list is cut off, and not let in again.
func TestRevoked(t *testing.T) {
	t.Parallel()
	f := setup(t, Limits{})
	a, b := f.dial("web1"), f.dial("web2")
	a.open(1, 0)
	a.want("opened 0")
	b.open(1, 0)
	b.want("opened 0")
	if err := os.WriteFile(filepath.Join(f.dir, "denied"), []byte("web1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.want("Unavailable")
	need.Wait(t, "its connection is counted", func() bool { return f.value(`grpc_closed_total{revoked}`) == 1 })
	b.batch(0, 0, "y")
	b.want("stored 1")
	again, err := fleet.NewIngestClient(f.connect("web1")).Stream(context.Background())
	if err == nil {
		_, err = again.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("again: %v", err)
	}
	need.Wait(t, "it is counted", func() bool { return f.value(`grpc_unverified_total{revoked}`) > 0 })
}

// A collector that stops says so, answers what is on its way, and ends.
func TestDrain(t *testing.T) {
	t.Parallel()
	f := setup(t, Limits{})
	a, quiet := f.dial("web1"), f.dial("web2")
	a.open(1, 0)
	a.want("opened 0")
	quiet.open(1, 0)
	quiet.want("opened 0")
	h := healthpb.NewHealthClient(a.conn)
	check := &healthpb.HealthCheckRequest{Service: "auditfleet.fleet.v1.Ingest"}
	if r, err := h.Check(context.Background(), check); err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", r, err)
	}
	done := make(chan struct{})
	go func() { f.Drain(); close(done) }()
	a.want("draining")
	quiet.want("draining")
	a.batch(0, 0, "x")
	a.want("stored 1")
	_ = a.CloseSend()
	a.want("OK")
	quiet.want("Unavailable") // after a while, though it says nothing
	<-done
}
