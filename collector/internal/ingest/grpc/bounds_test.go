package grpc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// stuck is a journal that stores nothing and says nothing until it is let go.
type stuck struct {
	mu    sync.Mutex
	dones []func(error) // guarded by mu
}

func (j *stuck) Submit(_ context.Context, _ *journal.Batch, done func(error)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.dones = append(j.dones, done)
	return nil
}
func (j *stuck) Commit(bool) {}
func (j *stuck) Busy() bool  { return false }

func (j *stuck) letGo() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, done := range j.dones {
		done(journal.ErrClosed)
	}
	j.dones = nil
}

// What a peer sends that is not stored is bounded: for each stream by what may be in flight,
// and by what gRPC lets come that was not read. A connection has so many streams, and no more.
func TestHeldBack(t *testing.T) {
	t.Parallel()
	f := setup(t, Limits{MaxStreams: 100})
	j := &stuck{}
	f.cfg.Intake = intake.Open(intake.Config{Journal: j, Space: &disk{}, Metrics: metrics.NewIntake(metrics.New()), Log: hclog.NewNullLogger()})
	t.Cleanup(func() { _ = f.cfg.Intake.Close() })
	var text [48 << 10]byte // it does not get smaller
	rnd := rand.NewChaCha8([32]byte{1})
	_, _ = rnd.Read(text[:])
	packed := frame(t, string(text[:]))
	conn := f.connect("web1")
	ctx, cancel := context.WithCancel(context.Background())
	var sending sync.WaitGroup
	var sent, opened atomic.Int64
	for i := range 3 * maxCalls {
		sending.Go(func() {
			stream, err := fleet.NewIngestClient(conn).Stream(ctx)
			if err != nil {
				return
			}
			c := &client{f: f, conn: conn, Ingest_StreamClient: stream}
			c.open(byte(i+1), 0)
			if _, err := c.Recv(); err != nil {
				return
			}
			opened.Add(1)
			for at := uint64(0); ; at++ {
				if c.Send(&fleet.StreamRequest{Message: &fleet.StreamRequest_Batch{Batch: &fleet.RecordBatch{First: at, Records: packed}}}) != nil {
					return
				}
				sent.Add(int64(len(packed)))
			}
		})
	}
	for last, same := int64(-1), 0; same < 10; time.Sleep(30 * time.Millisecond) { // no more goes out
		if now := sent.Load(); now == last && now > 0 {
			same++
		} else {
			last, same = now, 0
		}
	}
	// The client's gRPC has 64 KiB of each stream on its way, too, and one message.
	most := maxCalls * int64(f.cfg.Limits.MaxInFlight+streamWindow+64<<10+2*len(packed))
	if n := sent.Load(); n > most {
		t.Errorf("%d bytes went out, %d is the most", n, most)
	}
	if n := opened.Load(); n != maxCalls {
		t.Errorf("%d streams of one connection, want %d", n, maxCalls)
	}
	cancel()
	sending.Wait()
	j.letGo()
	need.Wait(t, "the streams have ended", func() bool { return f.value("grpc_streams") == 0 })
	j.letGo()
}

// The limits: of an address, of a name's streams, of those who send nothing, and of
// handshakes; who means it is let in all the while.
func TestLimits(t *testing.T) {
	t.Parallel()
	f := setup(t, Limits{MaxHandshakesPerAddr: 3, MaxStreams: 2, OpenTimeout: 300 * time.Millisecond})
	silent := make([]net.Conn, 6)
	for i := range silent {
		c, err := net.Dial("tcp", f.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent[i] = c
		need.Wait(t, "it is accepted", func() bool { return f.value("grpc_accepted_total") == float64(i+1) })
	}
	need.Wait(t, "the first ones were closed", func() bool { return f.value(`grpc_closed_total{handshake}`) == 3 })
	a, b, c := f.dial("web1"), f.dial("web1"), f.dial("web1")
	a.open(1, 0)
	a.want("opened 0")
	b.open(2, 0)
	b.want("opened 0")
	c.want("ResourceExhausted")
	d := f.dial("web2")
	d.want("DeadlineExceeded")
	a.batch(0, 0, "x")
	a.want("stored 1")
}

// Who connects and makes no call is cut off; who has made one may stay.
func TestUnused(t *testing.T) {
	t.Parallel()
	f := setup(t, Limits{OpenTimeout: 300 * time.Millisecond})
	used, unused := f.connect("web1"), f.connect("web2")
	if _, err := healthpb.NewHealthClient(used).Check(context.Background(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	unused.Connect()
	need.Wait(t, "it is cut off", func() bool { return f.value(`grpc_closed_total{idle}`) == 1 })
	if n := f.Len(); n != 1 {
		t.Errorf("%d connections are left", n)
	}
}

// Connections beyond those of an address are refused, and those of all. Handshakes leave room
// for as many connections as they have.
func TestMostConnections(t *testing.T) {
	t.Parallel()
	for label, l := range map[string]Limits{"dup": {MaxPerAddr: 2}, "limit": {MaxConns: 2}} {
		f := setup(t, l)
		more := 3
		if label == "limit" {
			for i := range 2 {
				f.connect(fmt.Sprintf("web%d", i)).Connect()
				need.Wait(t, "the connection", func() bool { return f.value("grpc_handshakes_total") == float64(i+1) })
			}
			more = 1
		}
		for range more {
			c, err := net.Dial("tcp", f.Addrs()[0].String())
			if errors.Is(err, syscall.ECONNRESET) { // refused before it was known to be there
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		need.Wait(t, "one is refused", func() bool { return f.value("grpc_refused_total{"+label+"}") == 1 })
		if n := f.Len(); n != 2 {
			t.Errorf("%s: %d connections", label, n)
		}
	}
}
