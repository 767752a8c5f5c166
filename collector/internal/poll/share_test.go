package poll

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/need"
)

// A light connection does not wait for all the heavy ones that are always ready, and of
// these each has its turns.
func TestHeavyComeLast(t *testing.T) {
	const heavies, each = 200, time.Millisecond
	p, ln := open(t, func() {})
	var turns [heavies]atomic.Int64
	var all atomic.Int64
	var over atomic.Bool
	for i := range heavies {
		c, far := pair(t, ln)
		ready := func() (bool, bool) { // what came stays there
			turns[i].Add(1)
			all.Add(1)
			time.Sleep(each)
			return !over.Load(), false
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
	need.Wait(t, "all are heavy", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.heavies == heavies
	})
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
	for range 5 {
		before := all.Load()
		far.Write([]byte("y"))
		// The rest of a round, and what came between the write and the look at the count.
		if n := <-came - before; n > heavies/2 {
			t.Errorf("%d turns of heavy connections before that of a light one", n)
		}
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

// A connection whose turns become light is watched with the light ones again, and loses
// nothing on the way.
func TestHeavyBecomesLight(t *testing.T) {
	p, ln := open(t, func() {})
	c, far := pair(t, ln)
	r := &reader{c: c}
	var light atomic.Bool
	h, err := p.Register(c, func() (bool, bool) { return r.read(), light.Load() })
	if err != nil {
		t.Fatal(err)
	}
	r.h = h
	t.Cleanup(h.Close)
	done := r.serve(t)
	heavy := func() (is bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return h.heavy
	}
	far.Write([]byte("a"))
	need.Wait(t, "it is heavy", heavy)
	light.Store(true)
	for range heavyTurns {
		if !heavy() {
			t.Fatal("light too soon")
		}
		p.mu.Lock()
		was := h.turns
		p.mu.Unlock()
		far.Write([]byte("b"))
		need.Wait(t, "a light turn", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return h.turns < was
		})
	}
	if heavy() || p.heavies != 0 {
		t.Errorf("still heavy, %d in all", p.heavies)
	}
	far.Write([]byte("c"))
	far.Close()
	within(t, "it ends", done)
	if string(r.got) != "abbbbc" {
		t.Errorf("read %q", r.got)
	}
}
