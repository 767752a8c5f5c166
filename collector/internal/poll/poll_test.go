package poll

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/internal/need"
)

func TestMain(m *testing.M) {
	need.Parallel(8) // they wait for peers
	goleak.VerifyTestMain(m)
}

// pair is a connection's two ends.
func pair(t *testing.T, ln net.Listener) (*Conn, *net.TCPConn) {
	t.Helper()
	far, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Detach(near.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close(); c.Close() })
	return c, far.(*net.TCPConn)
}

func open(t *testing.T, after func()) (*Poller, net.Listener) {
	t.Helper()
	return openBusy(t, after, func() bool { return false })
}

func openBusy(t *testing.T, after func(), busy func() bool) (*Poller, net.Listener) {
	t.Helper()
	p, err := Open(after, busy)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ln.Close()
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return p, ln
}

// reader reads what comes for one connection.
type reader struct {
	c      *Conn
	h      *Handle
	inside atomic.Bool
	got    []byte
	err    error
	keep   func() bool // after each read; nil: yes
}

func (r *reader) ready() (stays bool, c Class) { return r.read(), Light }

func (r *reader) read() bool {
	if r.inside.Swap(true) {
		panic("ready runs twice at a time")
	}
	defer r.inside.Store(false)
	var buf [512]byte
	n, err := 0, error(nil)
	if cerr := r.c.Control(func(fd uintptr) { n, err = unix.Read(int(fd), buf[:]) }); cerr != nil {
		err = cerr
	}
	switch {
	case errors.Is(err, unix.EAGAIN):
		return true
	case err == nil && n == 0:
		err = io.EOF
	}
	r.got = append(r.got, buf[:max(n, 0)]...)
	r.err = err
	return err == nil && (r.keep == nil || r.keep())
}

func register(t *testing.T, p *Poller, c *Conn) *reader {
	t.Helper()
	r := &reader{c: c}
	h, err := p.Register(c, r.ready)
	if err != nil {
		t.Fatal(err)
	}
	r.h = h
	t.Cleanup(h.Close)
	return r
}

func (r *reader) serve(t *testing.T) <-chan struct{} {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.h.Serve(); err != nil {
			t.Error(err)
		}
	}()
	return done
}

func within(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("never: %s", what)
	}
}

// Many connections, which write by turns and are kicked all the while: each byte
// comes once and in order, and each connection's end is seen.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	var rounds atomic.Int64
	p, ln := open(t, func() { rounds.Add(1) })
	const conns, pieces = 200, 50
	var wg sync.WaitGroup
	for i := range conns {
		c, far := pair(t, ln)
		r := register(t, p, c)
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Add(2)
		var want []byte
		over := make(chan struct{})
		go func() {
			defer wg.Done()
			for k := range pieces {
				piece := fmt.Appendf(nil, "%d/%d,", i, k)
				want = append(want, piece...)
				if _, err := far.Write(piece); err != nil {
					t.Error(err)
				}
				if rng.IntN(4) == 0 {
					time.Sleep(time.Duration(rng.IntN(int(3 * time.Millisecond))))
				}
				if rng.IntN(8) == 0 {
					r.h.Kick()
				}
			}
			if i%2 == 0 {
				far.CloseWrite()
			} else {
				far.Close()
			}
			close(over)
		}()
		go func() {
			defer wg.Done()
			for r.err == nil {
				if err := r.h.Serve(); err != nil {
					t.Error(err)
					return
				}
			}
			<-over
			if !errors.Is(r.err, io.EOF) || string(r.got) != string(want) {
				t.Errorf("connection %d: %v, %d bytes, want EOF and %d", i, r.err, len(r.got), len(want))
			}
		}()
	}
	wg.Wait()
	if n := rounds.Load(); n == 0 || n > conns*pieces*2 {
		t.Errorf("%d rounds", n)
	}
}

func TestKick(t *testing.T) {
	t.Parallel()
	p, ln := open(t, func() {})
	c, far := pair(t, ln)
	r := register(t, p, c)
	r.h.Kick() // before Serve
	within(t, "Serve returns for a kick before it", r.serve(t))
	done := r.serve(t)
	select {
	case <-done:
		t.Fatal("one kick ended Serve twice")
	case <-time.After(20 * time.Millisecond):
	}
	r.h.Kick()
	within(t, "Serve returns for a kick", done)
	far.Write([]byte("later"))
	time.Sleep(10 * time.Millisecond)
	if len(r.got) > 0 {
		t.Fatalf("%q was read without Serve", r.got)
	}
	inside, go_on := make(chan struct{}), make(chan struct{})
	r.keep = func() bool { close(inside); <-go_on; r.keep = nil; return true }
	done = r.serve(t)
	within(t, "ready is called", inside)
	r.h.Kick()
	select {
	case <-done:
		t.Fatal("given back while ready runs")
	case <-time.After(20 * time.Millisecond):
	}
	close(go_on)
	within(t, "given back after it", done)
	if string(r.got) != "later" {
		t.Errorf("read %q", r.got)
	}
}

// The end of a connection, in all ways, gives it back.
func TestEnds(t *testing.T) {
	t.Parallel()
	p, ln := open(t, func() {})
	for name, end := range map[string]func(near *Conn, far *net.TCPConn){
		"closed":    func(_ *Conn, far *net.TCPConn) { far.Close() },
		"reset":     func(_ *Conn, far *net.TCPConn) { far.SetLinger(0); far.Close() },
		"shut here": func(near *Conn, _ *net.TCPConn) { near.Shutdown() },
		"reset here": func(near *Conn, _ *net.TCPConn) {
			near.Reset()
			near.Shutdown()
		},
	} {
		c, far := pair(t, ln)
		r := register(t, p, c)
		done := r.serve(t)
		end(c, far)
		within(t, name, done)
		if r.err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	p, ln := open(t, func() {})
	c, far := pair(t, ln)
	r := register(t, p, c)
	if err := r.h.Wait(In, time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nothing to be read: %v", err)
	}
	if err := r.h.Wait(Out, time.Minute); err != nil {
		t.Errorf("room to write: %v", err)
	}
	far.Write([]byte("x"))
	if err := r.h.Wait(In, time.Minute); err != nil {
		t.Errorf("something to be read: %v", err)
	}
	// Full, while the poller reads it.
	fill := func() {
		var err error
		for err == nil {
			c.Control(func(fd uintptr) { _, err = unix.Write(int(fd), make([]byte, 64<<10)) })
		}
	}
	for range 20 { // what was in flight comes to rest
		fill()
		time.Sleep(time.Millisecond)
	}
	done := r.serve(t)
	if err := r.h.Wait(Out, 5*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("no room: %v", err)
	}
	room := make(chan struct{})
	go func() {
		defer close(room)
		if err := r.h.Wait(Out, time.Minute); err != nil {
			t.Errorf("waiting for room: %v", err)
		}
	}()
	go io.Copy(io.Discard, far)
	within(t, "there is room", room)
	far.CloseWrite()
	within(t, "it is over", done)
	if string(r.got) != "x" {
		t.Errorf("read %q meanwhile", r.got)
	}
	r.h.Close()
	if err := r.h.Wait(In, time.Second); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// When the end of a round takes for ever, others are read all the same.
func TestStuckRound(t *testing.T) {
	t.Parallel()
	var hang atomic.Bool
	free := make(chan struct{})
	stuck := make(chan struct{})
	p, ln := open(t, func() {
		if hang.CompareAndSwap(true, false) {
			close(stuck)
			<-free
		}
	})
	a, far := pair(t, ln)
	first := register(t, p, a)
	hang.Store(true)
	firstDone := first.serve(t)
	far.Write([]byte("a"))
	within(t, "the round is stuck", stuck)
	b, other := pair(t, ln)
	second := register(t, p, b)
	done := second.serve(t)
	other.Write([]byte("b"))
	other.Close()
	within(t, "the other is read", done)
	far.Close()
	within(t, "and the one whose round is stuck", firstDone)
	close(free)
	if string(first.got) != "a" || string(second.got) != "b" {
		t.Errorf("read %q and %q", first.got, second.got)
	}
}

// A descriptor that is used again at once is another connection.
func TestPlacesAreUsedAgain(t *testing.T) {
	t.Parallel()
	p, ln := open(t, func() {})
	for i := range 300 {
		c, far := pair(t, ln)
		r := &reader{c: c}
		h, err := p.Register(c, r.ready)
		if err != nil {
			t.Fatal(err)
		}
		r.h = h
		done := r.serve(t)
		fmt.Fprint(far, i)
		far.CloseWrite()
		within(t, "read", done)
		h.Close()
		c.Close()
		if want := fmt.Sprint(i); string(r.got) != want {
			t.Fatalf("read %q, want %q", r.got, want)
		}
	}
	if n := len(p.slots); n != 1 {
		t.Errorf("%d places for one connection at a time", n)
	}
}

func TestUseAfterClose(t *testing.T) {
	t.Parallel()
	_, ln := open(t, func() {})
	c, _ := pair(t, ln)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"Control": c.Control(func(uintptr) { t.Error("called") }), "Shutdown": c.Shutdown(), "CloseWrite": c.CloseWrite(),
		"Reset": c.Reset(), "KeepAlive": c.KeepAlive(time.Second, time.Second, 1), "Close": c.Close(),
	} {
		if err == nil {
			t.Errorf("%s after Close: no error", name)
		}
	}
}
