package poll

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/internal/need"
)

// A light connection does not wait for all the heavy ones that are always ready, and of
// these each has its turns.
func TestHeavyComeLast(t *testing.T) {
	t.Parallel()
	const heavies, each = 200, time.Millisecond
	p, ln := open(t, func() {})
	var turns [heavies]atomic.Int64
	var all atomic.Int64
	var over atomic.Bool
	for i := range heavies {
		c, far := pair(t, ln)
		ready := func() (bool, Class) { // what came stays there
			turns[i].Add(1)
			all.Add(1)
			time.Sleep(each)
			return !over.Load(), Heavy
		}
		h, err := p.Register(c, ready)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); _ = h.Serve() }()
		t.Cleanup(func() { over.Store(true); within(t, "a heavy one ends", done); h.Close() })
		far.Write([]byte("x"))
	}
	need.Wait(t, "all are heavy", func() bool { return p.counts[Heavy].Load() == heavies })
	c, far := pair(t, ln)
	came := make(chan int64, 1)
	r := &reader{c: c}
	r.keep = func() bool { came <- all.Load(); return true }
	h, err := p.Register(c, r.ready)
	if err != nil {
		t.Fatal(err)
	}
	r.h = h
	t.Cleanup(h.Close)
	done := r.serve(t)
	// The rest of a round, and what came between the write and the look at the count: much of that where this test
	// has to wait for a processor, but not each time.
	least := int64(heavies)
	for range 20 {
		before := all.Load()
		far.Write([]byte("y"))
		least = min(least, <-came-before)
	}
	if least > heavies/2 {
		t.Errorf("at least %d turns of heavy connections before that of a light one", least)
	}
	need.Wait(t, "each heavy one has had turns", func() bool {
		for i := range turns {
			if turns[i].Load() < 3 {
				return false
			}
		}
		return true
	})
	far.Close()
	within(t, "the light one ends", done)
}

// classOf is a connection's class.
func classOf(h *Handle) Class {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	return h.class
}

// A connection goes from class to class as its turns say, and loses nothing on the way.
func TestClassesChange(t *testing.T) {
	t.Parallel()
	p, ln := open(t, func() {})
	c, far := pair(t, ln)
	r := &reader{c: c}
	var is atomic.Uint32
	h, err := p.Register(c, func() (bool, Class) { return r.read(), Class(is.Load()) })
	if err != nil {
		t.Fatal(err)
	}
	r.h = h
	t.Cleanup(h.Close)
	done := r.serve(t)
	if classOf(h) != Fresh {
		t.Error("a new one is not fresh")
	}
	sent := ""
	for _, want := range []Class{Fresh, Heavy, Light, Heavy, Heavy, Fresh, Light, Light} {
		is.Store(uint32(want))
		sent += "a"
		far.Write([]byte("a"))
		need.Wait(t, "it has its class", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return h.class == want && p.counts[want].Load() == 1 && p.Len() == 1
		})
	}
	far.Close()
	within(t, "it ends", done)
	need.Wait(t, "all came", func() bool { return string(r.got) == sent })
}

// A fresh connection with much waiting has no turn among the fresh ones.
func TestFreshWithMuchIsHeavy(t *testing.T) {
	t.Parallel()
	p, ln := open(t, func() {})
	for n, want := range map[int]Class{freshBytes: Fresh, freshBytes + 1: Heavy} {
		c, far := pair(t, ln)
		far.Write(make([]byte, n))
		need.Wait(t, "it is there", func() bool { m, err := unix.IoctlGetInt(fdOf(c), unix.TIOCINQ); return err == nil && m == n })
		was := make(chan Class, 1)
		var h *Handle
		h, err := p.Register(c, func() (bool, Class) {
			was <- classOf(h)
			return false, Light
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Serve(); err != nil {
			t.Fatal(err)
		}
		if got := <-was; got != want {
			t.Errorf("%d bytes: class %d, want %d", n, got, want)
		}
		h.Close()
	}
	if n := p.Len(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

func fdOf(c *Conn) (n int) {
	_ = c.Control(func(fd uintptr) { n = int(fd) })
	return n
}

// While what they bring would have to wait, heavy connections have no turns; light ones do.
func TestBusy(t *testing.T) {
	t.Parallel()
	var busy atomic.Bool
	p, ln := openBusy(t, func() {}, busy.Load)
	var turns [2]atomic.Int64
	var far [2]*net.TCPConn
	for i, class := range []Class{Light, Heavy} {
		c, other := pair(t, ln)
		far[i] = other
		r := &reader{c: c}
		h, err := p.Register(c, func() (bool, Class) {
			more := r.read()
			turns[i].Add(1) // after the read: what is written once this is seen takes another turn
			return more, class
		})
		if err != nil {
			t.Fatal(err)
		}
		r.h = h
		t.Cleanup(h.Close)
		done := r.serve(t)
		t.Cleanup(func() { other.Close(); within(t, "it ends", done) })
		other.Write([]byte("a"))
		need.Wait(t, "it has its class", func() bool { return classOf(h) == class })
	}
	busy.Store(true)
	far[1].Write([]byte("b"))
	for range 20 {
		before := turns[0].Load()
		far[0].Write([]byte("b"))
		need.Wait(t, "the light one has a turn", func() bool { return turns[0].Load() > before })
	}
	if n := turns[1].Load(); n != 1 {
		t.Errorf("the heavy one had %d turns meanwhile", n-1)
	}
	busy.Store(false)
	need.Wait(t, "the heavy one has a turn", func() bool { return turns[1].Load() == 2 })
}
