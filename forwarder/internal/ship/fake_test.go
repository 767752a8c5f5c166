package ship_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	audisp "github.com/auditfleet/auditfleet/forwarder/internal/ship/remote"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/proto/remote"
)

func TestMain(m *testing.M) {
	need.Parallel(8)
	goleak.VerifyTestMain(m)
}

// memSource is a source in memory. Indexes begin at 1.
type memSource struct {
	base  uint32
	ready chan struct{}

	mu      sync.Mutex
	lines   [][]byte
	next    uint64
	acked   uint64
	dropped uint64                // records up to here are gone
	onAck   func(from, to uint64) // called with mu
	failure error
}

func newSource(lines ...string) *memSource {
	s := &memSource{base: 0x7ffffff0, ready: make(chan struct{}, 1), next: 1}
	s.add(lines...)
	return s
}

func (s *memSource) add(lines ...string) {
	s.mu.Lock()
	for _, l := range lines {
		s.lines = append(s.lines, []byte(l))
	}
	s.mu.Unlock()
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

func (s *memSource) seq(index uint64) uint32 {
	return 0x80000000 | (s.base+uint32(index))&0x7fffffff
}

func (s *memSource) Next() (uint64, uint32, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return 0, 0, nil, s.failure
	}
	s.next = max(s.next, s.dropped+1)
	if s.next > uint64(len(s.lines)) {
		return 0, 0, nil, io.EOF
	}
	i := s.next
	s.next++
	return i, s.seq(i), s.lines[i-1], nil
}

func (s *memSource) Ready() <-chan struct{} { return s.ready }

func (s *memSource) Seek(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = index
}

func (s *memSource) Ack(index uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if index > s.acked {
		if s.onAck != nil {
			s.onAck(s.acked+1, index)
		}
		s.acked = index
	}
	return nil
}

func (s *memSource) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = err
}

func (s *memSource) First() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked + 1
}

func (s *memSource) Stream(uint64) ([16]byte, uint64) { return [16]byte{1}, math.MaxUint64 }
func (s *memSource) Renew() error                     { return nil }
func (s *memSource) Rewind(index uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked = min(s.acked, max(index-1, s.dropped))
	return s.acked + 1, nil
}
func (s *memSource) Newest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.lines))
}

func (s *memSource) Left() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.lines)) - s.acked
}

// drop gives up everything before index, as a full spool does.
func (s *memSource) drop(before uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped = before - 1
	s.acked = max(s.acked, before-1)
}

// got is one message a fake server was sent.
type got struct {
	Seq  uint32
	Text string
}

// peer is one connection at a fake server, in a handler's hands.
type peer struct {
	t    testing.TB
	srv  *server
	conn net.Conn
	n    int // which connection it is, from 0
	dec  remote.Decoder
	buf  []byte
}

// recv returns the next frame, false when the connection has ended.
func (p *peer) recv() (remote.Frame, bool) {
	for {
		f, n, err := p.dec.Decode(p.buf)
		if err != nil {
			p.t.Errorf("server: %v", err)
			return f, false
		}
		if n > 0 {
			p.buf = p.buf[n:]
			return f, true
		}
		chunk := make([]byte, 4096)
		k, err := p.conn.Read(chunk)
		p.buf = append(p.buf, chunk[:k]...)
		if err != nil && k == 0 {
			return f, false
		}
	}
}

// store keeps a message.
func (p *peer) store(f remote.Frame) {
	p.srv.mu.Lock()
	defer p.srv.mu.Unlock()
	p.srv.stored = append(p.srv.stored, got{f.Seq, string(f.Payload)})
}

func (p *peer) reply(t remote.Type, seq uint32, text string) {
	_, _ = p.conn.Write(remote.Append(nil, t, seq, []byte(text))) // the peer may be gone
}

// serveAll stores and acknowledges everything.
func (p *peer) serveAll() {
	for {
		f, ok := p.recv()
		if !ok {
			return
		}
		if f.Type == remote.Message {
			p.store(f)
		}
		if !f.ASCII {
			p.reply(remote.Ack, f.Seq, "")
		}
	}
}

// server is a fake server. Each connection is handled by handle, one at a time.
type server struct {
	ln     net.Listener
	mu     sync.Mutex // guards stored
	stored []got
}

func serve(t testing.TB, handle func(p *peer)) *server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{ln: ln}
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			stop := make(chan struct{})
			wg.Go(func() {
				select {
				case <-over:
				case <-stop:
				}
				conn.Close()
			})
			handle(&peer{t: t, srv: s, conn: conn, n: n})
			close(stop)
		}
	})
	t.Cleanup(func() { ln.Close(); close(over); wg.Wait() })
	return s
}

func (s *server) addr() string { return s.ln.Addr().String() }

func (s *server) texts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, g := range s.stored {
		out = append(out, g.Text)
	}
	return out
}

// quick are timeouts for tests.
func quick(c ship.Config) ship.Config {
	c.BackoffMin = cmp.Or(c.BackoffMin, time.Millisecond)
	c.BackoffMax = cmp.Or(c.BackoffMax, 20*time.Millisecond)
	c.Grace = cmp.Or(c.Grace, 100*time.Millisecond)
	if c.Transport == nil {
		c.Transport = audisp.Transport{}
	}
	return c
}

// start runs a sender until the test ends, and returns it with a func that ends it.
func start(t testing.TB, cfg ship.Config, src ship.Source) (*ship.Sender, func()) {
	t.Helper()
	s, err := ship.New(quick(cfg), src)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return s, stop
}

func drain(t testing.TB, s *ship.Sender) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if left, err := s.Drain(ctx); err != nil || left != 0 {
		t.Fatalf("drain: %d left, %v", left, err)
	}
}

func lines(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("type=SYSCALL msg=audit(1700000000.123:%d): arch=c000003e syscall=2 success=yes", i+1)
	}
	return out
}

// ackAll answers everything that came with one read by one write.
func (p *peer) ackAll() {
	var out []byte
	chunk := make([]byte, 64<<10)
	for {
		n, err := p.conn.Read(chunk)
		if err != nil {
			return
		}
		p.buf = append(p.buf, chunk[:n]...)
		out = out[:0]
		used := 0
		for {
			f, k, err := p.dec.Decode(p.buf[used:])
			if err != nil || k == 0 {
				break
			}
			used += k
			out = remote.Append(out, remote.Ack, f.Seq, nil)
		}
		p.buf = p.buf[:copy(p.buf, p.buf[used:])]
		_, _ = p.conn.Write(out) // the peer may be gone
	}
}
