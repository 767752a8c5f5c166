package grpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/forwarder/internal/witness"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/internal/testca"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/proto/fleet"
	"github.com/auditfleet/auditfleet/proto/ingest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is one in memory, whose streams begin at the indexes of starts.
type source struct {
	ready chan struct{}

	mu      sync.Mutex
	lines   []string // guarded by mu
	next    uint64   // guarded by mu
	acked   uint64   // guarded by mu
	starts  []uint64 // guarded by mu; ascending
	renewed int      // guarded by mu
	kept    uint64   // guarded by mu; the first index that Rewind can go back to
}

func newSource(n int, starts ...uint64) *source {
	s := &source{ready: make(chan struct{}, 1), next: 1, starts: append([]uint64{0}, starts...)}
	for i := range n {
		text := fmt.Sprintf("type=USER msg=audit(1.000:%d): %s", i+1, strings.Repeat("x", i%300))
		if i%17 == 0 {
			text = "type=EOE msg=audit(1.000:1): " // never sent
		}
		s.lines = append(s.lines, text)
	}
	return s
}

func (s *source) Next() (uint64, uint32, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next > uint64(len(s.lines)) {
		return 0, 0, nil, io.EOF
	}
	i := s.next
	s.next++
	return i, uint32(i), []byte(s.lines[i-1]), nil
}
func (s *source) Ready() <-chan struct{} { return s.ready }
func (s *source) Seek(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = index
}
func (s *source) Ack(index uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked = max(s.acked, index)
	return nil
}
func (s *source) First() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked + 1
}
func (s *source) Left() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.lines)) - s.acked
}
func (s *source) Newest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.lines))
}
func (s *source) Stream(index uint64) (id [16]byte, end uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end = math.MaxUint64
	for i := len(s.starts) - 1; i >= 0; i-- {
		if s.starts[i] <= index {
			return [16]byte{1, byte(i), byte(s.renewed)}, end
		}
		end = s.starts[i]
	}
	return id, end
}

// Rewind keeps what was kept of what was acknowledged: from s.kept on.
func (s *source) Rewind(index uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked = min(s.acked, max(index, s.kept)-1)
	return s.acked + 1, nil
}
func (s *source) Renew() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renewed++
	return nil
}

// collector is a server as the service describes it, which fails as fault says.
type collector struct {
	fleet.UnimplementedIngestServer
	t    testing.TB
	addr string
	rpc  *rpc.Server

	mu     sync.Mutex
	next   map[string]uint64 // guarded by mu
	stored map[string]int    // guarded by mu
	order  []string          // guarded by mu
	opens  []*fleet.Open     // guarded by mu
	at     map[string]uint64 // guarded by mu; the offset of what is stored
	store  []byte            // guarded by mu; the ID of its store
	seal   *sealing          // guarded by mu; nil: it signs nothing
	flood  int               // guarded by mu; how many checkpoints it sends in a row
	// fault is asked for each batch: "" is none. Guarded by mu.
	fault func() string
}

func (f *fixture) serve() *collector {
	c := &collector{t: f.t, next: map[string]uint64{}, stored: map[string]int{}, at: map[string]uint64{}, fault: func() string { return "" }}
	cert, key := f.ca.Issue(f.t.TempDir(), nil, "localhost")
	trust, err := pki.Open(pki.Config{CA: f.ca.File, Cert: cert, Key: key})
	if err != nil {
		f.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	c.addr = "localhost:" + port
	c.rpc = rpc.NewServer(rpc.Creds(credentials.NewTLS(trust.Server("h2"))), rpc.WaitForHandlers(true))
	fleet.RegisterIngestServer(c.rpc, c)
	done := make(chan struct{})
	go func() { defer close(done); _ = c.rpc.Serve(ln) }()
	f.t.Cleanup(func() { c.rpc.Stop(); <-done })
	return c
}

func (c *collector) Stream(s fleet.Ingest_StreamServer) error {
	var id string
	var floor uint64
	for {
		m, err := s.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		var r fleet.StreamResponse
		switch m := m.GetMessage().(type) {
		case *fleet.StreamRequest_Open:
			c.mu.Lock()
			id, floor = string(m.Open.GetStreamId()), m.Open.GetOldest()
			c.opens = append(c.opens, m.Open)
			r.Message = &fleet.StreamResponse_Opened{Opened: &fleet.Opened{Held: c.next[id], Store: c.store}}
			seal, times := c.seal, max(c.flood, 1)
			c.mu.Unlock()
			if seal != nil && m.Open.GetWitness() {
				if err := s.Send(&r); err != nil {
					return err
				}
				for range times {
					if err := s.Send(seal.newest()); err != nil {
						return err
					}
				}
				continue
			}
		case *fleet.StreamRequest_Prove:
			c.mu.Lock()
			seal := c.seal
			c.mu.Unlock()
			if err := s.Send(seal.prove(m.Prove)); err != nil {
				return err
			}
			continue
		case *fleet.StreamRequest_Beat:
			r.Message = &fleet.StreamResponse_Alive{Alive: &fleet.Alive{}}
		case *fleet.StreamRequest_Batch:
			end, err := c.batch(&r, id, floor, m.Batch)
			if err != nil || end {
				return err
			}
		}
		if err := s.Send(&r); err != nil {
			return err
		}
	}
}

func (c *collector) batch(r *fleet.StreamResponse, id string, floor uint64, b *fleet.RecordBatch) (end bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size, err := ingest.Size(b.GetRecords())
	if err != nil {
		c.t.Error(err)
		return true, err
	}
	raw, err := ingest.Unpack(b.GetRecords(), size)
	if err != nil {
		c.t.Error(err)
		return true, err
	}
	at := b.GetFirst() + b.GetSkipped()
	var texts []string
	var offsets []uint64
	for len(raw) > 0 {
		skipped, text, rest, err := ingest.Next(raw)
		if err != nil {
			c.t.Error(err)
			return true, err
		}
		at += uint64(skipped)
		texts, offsets = append(texts, string(text)), append(offsets, at)
		at++
		raw = rest
	}
	refuse := func(reason fleet.Refusal) {
		r.Message = &fleet.StreamResponse_Refused{Refused: &fleet.Refused{First: b.GetFirst(), Next: at, Reason: reason}}
	}
	if b.GetFirst() > max(c.next[id], floor) {
		refuse(fleet.Refusal_REFUSAL_GAP)
		return false, nil
	}
	fault := c.fault()
	switch fault {
	case "refuse":
		refuse(fleet.Refusal_REFUSAL_DISK_FULL)
		return false, nil
	case "put back":
		c.putBack(id, 300)
		return true, status.Error(codes.Unavailable, "put back")
	case "cut":
		return true, status.Error(codes.Unavailable, "cut")
	}
	for i, o := range offsets {
		if o >= c.next[id] {
			c.stored[texts[i]]++
			c.at[texts[i]] = o
			c.order = append(c.order, texts[i])
		}
	}
	c.next[id] = max(c.next[id], at)
	if fault == "lose" {
		return true, status.Error(codes.Unavailable, "stored, and not answered")
	}
	r.Message = &fleet.StreamResponse_Stored{Stored: &fleet.Stored{Next: c.next[id], Pressure: fleet.Pressure(rand.IntN(3))}}
	return false, nil
}

// putBack has it forget what it has of a stream from an offset on. The caller holds mu.
func (c *collector) putBack(id string, next uint64) {
	c.next[id] = min(c.next[id], next)
	for text, at := range c.at {
		if at >= next {
			delete(c.at, text)
			delete(c.stored, text)
		}
	}
}

type fixture struct {
	t       testing.TB
	ca      *testca.CA
	witness *witness.Keeper // nil: none
}

func setup(t testing.TB) *fixture { return &fixture{t: t, ca: testca.New(t, t.TempDir())} }

func (f *fixture) transport(name string) *Transport {
	cert, key := f.ca.Issue(f.t.TempDir(), nil, name)
	trust, err := pki.Open(pki.Config{CA: f.ca.File, Cert: cert, Key: key})
	if err != nil {
		f.t.Fatal(err)
	}
	return &Transport{Trust: trust, Witness: f.witness}
}

// during runs a sender of a source while fn runs. Of cfg, who it sends as and how soon it tries again is f's.
func (f *fixture) during(src *source, cfg ship.Config, fn func(*ship.Sender)) {
	f.t.Helper()
	cfg.Transport, cfg.BackoffMin, cfg.BackoffMax = f.transport("web1"), time.Millisecond, 5*time.Millisecond
	s, err := ship.New(cfg, src)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	fn(s)
}

// drain waits until all is acknowledged.
func (f *fixture) drain(s *ship.Sender) {
	f.t.Helper()
	wait, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	if left, err := s.Drain(wait); err != nil {
		f.t.Errorf("%d left: %v", left, err)
	}
}

// send runs a sender until all of the source is acknowledged.
func (f *fixture) send(src *source, servers ...string) *ship.Metrics {
	f.t.Helper()
	m := &ship.Metrics{}
	hello := func() ship.Hello {
		return ship.Hello{Host: "web1", Boot: "b", Program: "p", Lost: map[string]uint64{"queue": 3}}
	}
	f.during(src, ship.Config{Servers: servers, Probe: 20 * time.Millisecond, Window: 700, Metrics: m, Hello: hello}, f.drain)
	return m
}

// sendTwice is send, where more records come once all is acknowledged.
func (f *fixture) sendTwice(src *source, server string, more int) *ship.Metrics {
	f.t.Helper()
	m := &ship.Metrics{}
	f.during(src, ship.Config{Servers: []string{server}, Window: 700, Metrics: m}, func(s *ship.Sender) {
		f.drain(s)
		src.more(more)
		f.drain(s)
	})
	return m
}

// more adds records.
func (s *source) more(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := len(s.lines)
	s.lines = append(s.lines, newSource(from + n).lines[from:]...)
	s.ready <- struct{}{}
}

// wanted are the records of a source that are sent.
func (s *source) wanted() (list []string) {
	for _, l := range s.lines {
		if !strings.HasPrefix(l, "type=EOE") {
			list = append(list, l)
		}
	}
	return list
}

// All arrive, once and in order, over several streams; of what is stored already nothing is
// sent again; and the collector hears who sends.
func TestInOrder(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.serve()
	src := newSource(3000, 400, 401, 2500)
	m := f.send(src, c.addr)
	if got := strings.Join(c.order, "\n"); got != strings.Join(src.wanted(), "\n") {
		t.Errorf("%d records arrived, of %d, or in another order", len(c.order), len(src.wanted()))
	}
	if m.Acked.Load() != uint64(len(src.wanted())) || m.Resent.Load() != 0 {
		t.Errorf("%d acknowledged, %d sent again", m.Acked.Load(), m.Resent.Load())
	}
	if len(c.opens) != 4 || string(c.opens[0].GetHost()) != "web1" || c.opens[0].GetLost()["queue"] != 3 || c.opens[0].GetOldest() != 1 || c.opens[0].GetNewest() != 3000 || c.opens[3].GetOldest() != 2500 && c.opens[3].GetOldest() != 2501 {
		t.Errorf("opened: %v", c.opens)
	}
	// A sender that has forgotten what was acknowledged, as after a crash.
	src.acked, src.next = 2600, 1
	before := len(c.order)
	f.send(src, c.addr)
	if len(c.order) != before {
		t.Errorf("%d records arrived again", len(c.order)-before)
	}
}

// Refusals, lost answers and cut connections, at two collectors: each record is stored once
// at the least, and nowhere twice.
func TestFaults(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for range need.Rounds(6, 2) {
		a, b := f.serve(), f.serve()
		for _, c := range []*collector{a, b} {
			c.fault = func() string {
				return [...]string{"", "", "", "", "refuse", "cut", "lose"}[rand.IntN(7)]
			}
		}
		src := newSource(8000, uint64(rand.IntN(4000)), uint64(4000+rand.IntN(4000)))
		m := f.send(src, a.addr, b.addr)
		for _, text := range src.wanted() {
			if x, y := a.stored[text], b.stored[text]; x > 1 || y > 1 || x+y == 0 {
				t.Errorf("%.60s is stored %d times at one, %d at the other", text, x, y)
			}
		}
		if m.UnexpectedReplies.Load() > m.Connects.Load() {
			t.Errorf("%d unexpected replies in %d connections", m.UnexpectedReplies.Load(), m.Connects.Load())
		}
	}
}

// A collector that holds more of the stream than there ever was has it from a life that is
// gone: what waits goes on in another stream, and nothing is taken for stored.
func TestPutBack(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.serve()
	src := newSource(100)
	id, _ := src.Stream(1)
	c.next[string(id[:])] = 500
	f.send(src, c.addr)
	if len(c.order) != len(src.wanted()) || src.renewed != 1 {
		t.Errorf("%d records arrived of %d; renewed %d times", len(c.order), len(src.wanted()), src.renewed)
	}
}

// A machine that was put back while it ran, and has made more records since than it had in the life
// that is gone, takes none of them for stored: they were never sent.
func TestPutBackWhileRunning(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.serve()
	src := newSource(600)
	src.acked = 100
	id, _ := src.Stream(1)
	for _, k := range []struct {
		held    uint64
		renewed int
	}{{101, 0}, {151, 0}, {152, 1}, {300, 1}} {
		src.renewed = 0
		c.next[string(id[:])] = k.held
		conn, err := f.transport("web1").Dial(context.Background(), c.addr, ship.Sending{Streams: src, Sent: func() uint64 { return 150 }})
		if err != nil {
			t.Fatal(err)
		}
		if src.renewed != k.renewed {
			t.Errorf("the collector holds all below %d: renewed %d times, want %d", k.held, src.renewed, k.renewed)
		}
		if err := conn.Close(true); err != nil {
			t.Error(err)
		}
	}
}

// What an administrator reads where a connection fails.
func TestFailures(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.serve()
	other := setup(t).serve()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	go func() {
		for {
			conn, err := plain.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("220 here speaks somebody else\r\n"))
			_ = conn.Close()
		}
	}()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	for name, k := range map[string]struct {
		server, want string
	}{
		"nobody":          {closed.Addr().String(), "connection refused"},
		"another CA":      {other.addr, "CA"},
		"another name":    {strings.Replace(c.addr, "localhost", "127.0.0.1", 1), "127.0.0.1"},
		"no TLS":          {strings.Replace(plain.Addr().String(), "127.0.0.1", "localhost", 1), "TLS"},
		"nothing is said": {strings.Replace(silent.Addr().String(), "127.0.0.1", "localhost", 1), "no answer in time"},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		if name == "nothing is said" {
			ctx, cancel = context.WithTimeout(context.Background(), 300*time.Millisecond)
		}
		conn, err := f.transport("web1").Dial(ctx, k.server, ship.Sending{Streams: newSource(1), Sent: func() uint64 { return 1 }})
		cancel()
		if err == nil {
			_ = conn.Close(true)
		}
		if err == nil || !strings.Contains(err.Error(), k.want) || strings.Contains(err.Error(), "rpc error") {
			t.Errorf("%s: %v, want %q in it", name, err, k.want)
		}
	}
}

// A deadline ends a wait, and the connection goes on.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.serve()
	conn, err := f.transport("web1").Dial(context.Background(), c.addr, ship.Sending{Streams: newSource(1), Sent: func() uint64 { return 1 }})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(false)
	time.AfterFunc(20*time.Millisecond, func() { conn.SetReceiveDeadline(time.Now()) })
	var late net.Error
	if _, err := conn.Receive(nil); !errors.As(err, &late) || !late.Timeout() {
		t.Errorf("receive: %v", err)
	}
	conn.SetReceiveDeadline(time.Time{})
	if _, err := conn.Beat(); err != nil {
		t.Fatal(err)
	}
	if replies, err := conn.Receive(nil); err != nil || len(replies) != 1 || replies[0].Outcome != ship.Alive {
		t.Errorf("%v, %v", replies, err)
	}
}

// A collector whose store was put back to an older state, while the forwarder runs, gets again
// what it had acknowledged, as far as that is still there; the rest is counted. One that says no ID
// of a store, or another one, is not held to anything.
func TestCollectorPutBack(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, c := range []struct {
		name  string
		store string // after it was put back
		kept  uint64
		again uint64
		gone  uint64
	}{
		{"all is there still", "one", 1, 701, 0},
		{"a part is", "one", 600, 401, 300},
		{"another store", "two", 1, 0, 0},
		{"a store without an ID", "", 1, 0, 0},
	} {
		server := f.serve()
		server.store = []byte("one")
		src := newSource(1000)
		src.kept = c.kept
		id, _ := src.Stream(1)
		put := false
		server.fault = func() string {
			if put || server.next[string(id[:])] < 1001 {
				return ""
			}
			put = true // with the first batch of what comes later
			server.store = []byte(c.store)
			return "put back"
		}
		m := f.sendTwice(src, server.addr, 500)
		var missing uint64
		for i, text := range src.lines {
			if strings.HasPrefix(text, "type=EOE") {
				continue
			}
			switch n := server.stored[text]; {
			case n > 1:
				t.Errorf("%s: record %d is stored %d times", c.name, i+1, n)
			case n == 0:
				missing++
				if i+1 > 1000 || uint64(i+1) >= max(c.kept, 300) && c.again > 0 {
					t.Errorf("%s: record %d is missing", c.name, i+1)
				}
			}
		}
		if got := m.Recalled.Load(); got != c.again {
			t.Errorf("%s: %d sent again, want %d", c.name, got, c.again)
		}
		if got := m.Gone.Load(); got != c.gone || got > 0 && missing == 0 {
			t.Errorf("%s: %d said to be gone, want %d; %d are missing", c.name, got, c.gone, missing)
		}
	}
}

// TestHeldIsNotCredited: a forwarder that was killed and takes up where its spool had noted it, finds
// a collector that holds more than that, of which another one had a part: who acknowledged what
// stays as it was.
func TestHeldIsNotCredited(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.serve()
	src := newSource(200)
	id, _ := src.Stream(1)
	src.acked, src.next = 100, 101
	c.next[string(id[:])] = 151
	before := []ship.AckedBy{{Server: c.addr, Stream: id, From: 1, To: 119, Records: 112}, {Server: "other:1", Stream: id, From: 120, To: 139, Records: 19}}
	var by []ship.AckedBy
	f.during(src, ship.Config{Servers: []string{c.addr}, AckedBy: before}, func(s *ship.Sender) {
		f.drain(s)
		by = s.AckedBy()
	})
	if len(by) != 3 || by[1].To != 139 || by[2].From != 140 || by[2].To < 199 {
		t.Errorf("%+v", by)
	}
}

// TestOrderOverStreams: the last batches of a stream are refused once, and those of the next stream
// would not be: they come in order all the same.
func TestOrderOverStreams(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.serve()
	src := newSource(3000, 800, 1600)
	refused := map[uint64]int{}
	c.fault = func() string {
		for _, edge := range []uint64{800, 1600} {
			id, _ := src.Stream(edge - 1)
			if next := c.next[string(id[:])]; next > edge-700 && next < edge && refused[edge] < 2 {
				refused[edge]++
				return "refuse"
			}
		}
		return ""
	}
	f.send(src, c.addr)
	if len(refused) == 0 {
		t.Error("nothing was refused")
	}
	if d := cmp.Diff(src.wanted(), c.order); d != "" {
		t.Errorf("%d records arrived of %d, or in another order: %.2000s", len(c.order), len(src.wanted()), d)
	}
}
