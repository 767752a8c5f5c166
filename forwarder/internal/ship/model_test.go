package ship_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// chaos is a server that stores, loses, answers, repeats, reorders, refuses and
// cuts at random, and remembers what it stored.
type chaos struct {
	rng    *rand.Rand
	faults int // left; without any it serves well

	mu     sync.Mutex // guards all below
	stored map[uint32]string
	first  []uint32 // ids in the order they were first received
	seen   map[uint32]bool
	wrong  string
}

func (c *chaos) fault(oneIn int) bool {
	if c.faults <= 0 || c.rng.IntN(oneIn) != 0 {
		return false
	}
	c.faults--
	return true
}

func (c *chaos) handle(p *peer) {
	var held [][]byte // replies not sent yet
	flush := func() {
		c.rng.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
		for _, r := range held {
			_, _ = p.conn.Write(r) // the peer may be gone
		}
		held = held[:0]
	}
	for {
		f, ok := p.recv()
		if !ok {
			return
		}
		if f.Type != remote.Message {
			held = append(held, remote.Append(nil, remote.Ack, f.Seq, nil))
			flush()
			continue
		}
		c.mu.Lock()
		if !c.seen[f.Seq] {
			c.seen[f.Seq] = true
			c.first = append(c.first, f.Seq)
		}
		c.mu.Unlock()
		if c.fault(40) {
			return // before it is stored
		}
		reply := remote.Ack
		switch {
		case c.fault(30):
			reply = []remote.Type{remote.DiskFull, remote.DiskError, 0x60000123}[c.rng.IntN(3)]
		case c.fault(30):
			reply = []remote.Type{remote.DiskLow, 0x50000123, 0x40000123}[c.rng.IntN(3)]
		}
		if !reply.IsFatal() {
			c.store(f)
		}
		if c.fault(40) {
			flush()
			return // stored, not answered
		}
		r := remote.Append(nil, reply, f.Seq, []byte("text"))
		if c.fault(40) {
			_, _ = p.conn.Write(r[:c.rng.IntN(len(r))])
			return // in the middle of a reply
		}
		held = append(held, r)
		if c.fault(20) {
			held = append(held, r)
		}
		if c.fault(20) {
			held = append(held, remote.Append(nil, remote.Ack, c.rng.Uint32()&0x7fffffff, nil))
		}
		if c.faults <= 0 || c.rng.IntN(3) > 0 || len(held) > 3 {
			flush()
		}
	}
}

func (c *chaos) store(f remote.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if was, ok := c.stored[f.Seq]; ok && was != string(f.Payload) {
		c.wrong = fmt.Sprintf("id %#x carried %q, then %q", f.Seq, was, f.Payload)
	}
	c.stored[f.Seq] = string(f.Payload)
}

// Whatever the server does: a record is acknowledged to the source only once it
// is stored, all are in the end, each under its own id, and they are first sent
// in order.
func TestModel(t *testing.T) {
	var faults int
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		n := rapid.IntRange(1, 300).Draw(rt, "records")
		window := rapid.IntRange(1, 64).Draw(rt, "window")
		cuts := rapid.SliceOfN(rapid.IntRange(1, 20000), 0, 4).Draw(rt, "cut after bytes")
		c := &chaos{
			rng: rand.New(rand.NewPCG(seed, 1)), faults: rapid.IntRange(0, 60).Draw(rt, "faults"),
			stored: map[uint32]string{}, seen: map[uint32]bool{},
		}
		planned := c.faults
		srv := serve(t, c.handle)
		defer srv.ln.Close()
		px := newProxy(t, srv.addr(), 0, cuts)
		want := lines(n)
		for i := range want {
			if i%17 == 3 {
				want[i] = fmt.Sprintf("type=EOE msg=audit(1700000000.123:%d): ", i+1)
			}
		}
		src := newSource(want[:n/2]...)
		src.onAck = func(from, to uint64) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for i := from; i <= to; i++ {
				if l := string(src.lines[i-1]); c.stored[src.seq(i)] != l && !strings.HasPrefix(l, "type=EOE ") {
					c.wrong = fmt.Sprintf("record %d acknowledged, the server has %q", i, c.stored[src.seq(i)])
				}
			}
		}
		s, stop := start(t, ship.Config{Servers: []string{px.addr()}, Window: window, ReplyTimeout: 20 * time.Millisecond}, src)
		for _, l := range want[n/2:] {
			src.add(l)
		}
		drain(t, s)
		stop()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.wrong != "" {
			rt.Fatal(c.wrong)
		}
		sent := 0
		for i, l := range want {
			if strings.HasPrefix(l, "type=EOE ") {
				continue
			}
			if sent++; c.stored[src.seq(uint64(i+1))] != l {
				rt.Fatalf("record %d isn't stored", i+1)
			}
		}
		if len(c.stored) != sent {
			rt.Fatalf("%d ids stored, want %d", len(c.stored), sent)
		}
		for i := 1; i < len(c.first); i++ {
			if (c.first[i]-src.base)&0x7fffffff <= (c.first[i-1]-src.base)&0x7fffffff {
				rt.Fatalf("id %#x was first sent after %#x", c.first[i], c.first[i-1])
			}
		}
		faults += planned - c.faults
	})
	if faults == 0 {
		t.Error("no fault happened: the model shows nothing")
	}
}

// proxy passes a connection on, each byte delay later, and cuts connections.
type proxy struct{ ln net.Listener }

func (p *proxy) addr() string { return p.ln.Addr().String() }

// newProxy cuts its first connections after so many bytes from the sender each.
func newProxy(t testing.TB, target string, delay time.Duration, cuts []int) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	over := make(chan struct{})
	wg.Go(func() {
		for n := 0; ; n++ {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			cut := -1
			if n < len(cuts) {
				cut = cuts[n]
			}
			wg.Go(func() { relay(conn, target, delay, cut, over) })
		}
	})
	t.Cleanup(func() { ln.Close(); close(over); wg.Wait() })
	return &proxy{ln}
}

func relay(conn net.Conn, target string, delay time.Duration, cut int, over chan struct{}) {
	defer conn.Close()
	up, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer up.Close()
	var wg sync.WaitGroup
	done := make(chan struct{})
	once := sync.OnceFunc(func() { close(done) })
	wg.Go(func() { late(up, conn, delay, cut); once() })
	wg.Go(func() { late(conn, up, delay, -1); once() })
	select {
	case <-over:
	case <-done:
	}
	conn.Close()
	up.Close()
	wg.Wait()
}

// late copies from src to dst, each piece delay after it came, and stops after cut bytes.
func late(dst io.Writer, src io.Reader, delay time.Duration, cut int) {
	type piece struct {
		at time.Time
		b  []byte
	}
	pieces := make(chan piece, 1<<16)
	go func() {
		defer close(pieces)
		for {
			b := make([]byte, 32<<10)
			n, err := src.Read(b)
			if n > 0 {
				pieces <- piece{time.Now().Add(delay), b[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	broken := false
	for p := range pieces {
		if broken {
			continue
		}
		time.Sleep(time.Until(p.at))
		if cut >= 0 && len(p.b) > cut {
			p.b = p.b[:cut]
		}
		_, err := dst.Write(p.b)
		if cut >= 0 {
			cut -= len(p.b)
		}
		if broken = err != nil || cut == 0; broken {
			if c, ok := src.(io.Closer); ok {
				c.Close()
			}
		}
	}
}

// The point of the window: over a link of 50 ms a stop-and-wait sender makes 20
// records a second. Here a whole window is under way before the first reply.
func TestOverALongLink(t *testing.T) {
	srv := serve(t, func(p *peer) {
		var held []remote.Frame
		for len(held) < ship.MaxWindow {
			f, ok := p.recv()
			if !ok {
				return
			}
			p.store(f)
			held = append(held, f)
		}
		for _, f := range held {
			p.reply(remote.Ack, f.Seq, "")
		}
		p.serveAll()
	})
	src := newSource(lines(ship.MaxWindow + 1024)...)
	s, stop := start(t, ship.Config{Servers: []string{srv.addr()}, ReplyTimeout: time.Minute}, src)
	drain(t, s)
	stop()
	checkStored(t, srv, src, false)
}
