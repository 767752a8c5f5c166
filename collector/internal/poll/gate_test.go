package poll

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/internal/need"
)

// lightEpoll is an epoll as the light connections have one, with an eventfd in it that makes it ready.
func lightEpoll(t *testing.T) (epoll, event int) {
	t.Helper()
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, event, &unix.EpollEvent{Events: unix.EPOLLIN})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(event); unix.Close(epoll) })
	return epoll, event
}

func set(t *testing.T, event int) {
	t.Helper()
	if _, err := unix.Write(event, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		t.Error(err)
	}
}

func clearEvent(event int) { _, _ = unix.Read(event, make([]byte, 8)) }

func testGate(t *testing.T) (*gate, int) {
	t.Helper()
	epoll, event := lightEpoll(t)
	g, err := openGate(epoll)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.close(); err != nil {
			t.Error(err)
		}
	})
	return g, event
}

// Who sleeps until a time is not woken by what comes meanwhile, however much that is, and finds it then.
func TestGateSleepsOn(t *testing.T) {
	t.Parallel()
	g, event := testGate(t)
	over := make(chan struct{})
	var came atomic.Int64
	go func() {
		defer close(over)
		for range 200 {
			set(t, event)
			came.Add(1)
			time.Sleep(time.Millisecond)
		}
	}()
	for came.Load() < 100 {
		g.looks = 0
		if err := g.until(20 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if g.looks != 2 { // as it was armed, and as the time was over
			t.Errorf("it was woken %d times", g.looks-1)
		}
	}
	within(t, "all is written", over)
	if err := g.untilReady(); err != nil {
		t.Fatal(err)
	}
	if n := readyNow(g.light, make([]unix.EpollEvent, 1)); n != 1 {
		t.Errorf("%d are ready", n)
	}
	if err := g.wake(); err != nil {
		t.Error(err)
	}
}

// What comes while nobody sleeps, while it is being armed or later wakes who sleeps; nothing is missed, also
// where sleeps until a time come in between.
func TestGateMissesNothing(t *testing.T) {
	t.Parallel()
	g, event := testGate(t)
	turns := make(chan int)
	go func() {
		defer close(turns)
		for i := range need.Size(2000, 300) {
			turns <- i
			if i%3 == 0 {
				time.Sleep(time.Duration(i%7) * 10 * time.Microsecond)
			}
			set(t, event)
		}
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range turns {
			if i%5 == 0 {
				if err := g.until(10 * time.Microsecond); err != nil {
					t.Error(err)
				}
			}
			if err := g.untilReady(); err != nil {
				t.Error(err)
			}
			clearEvent(event)
		}
	}()
	within(t, "each is seen", done)
	if err := g.wake(); err != nil {
		t.Error(err)
	}
}

// The end wakes who sleeps, for whatever.
func TestGateEnds(t *testing.T) {
	t.Parallel()
	for name, sleep := range map[string]func(*gate) error{
		"until ready":  (*gate).untilReady,
		"until a time": func(g *gate) error { return g.until(time.Hour) },
	} {
		g, _ := testGate(t)
		failed := make(chan error, 1)
		go func() { failed <- sleep(g) }()
		if err := g.wake(); err != nil {
			t.Error(err)
		}
		select {
		case err := <-failed:
			if err == nil {
				t.Errorf("%s: no error after the end", name)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: not woken by the end", name)
		}
	}
}

// The timer of the relief rests while there are no rounds, and goes again with the next: a round that is stuck after
// a rest is relieved as well.
func TestReliefRests(t *testing.T) {
	t.Parallel()
	var hang atomic.Bool
	free, stuck := make(chan struct{}), make(chan struct{})
	p, ln := open(t, func() {
		if hang.CompareAndSwap(true, false) {
			close(stuck)
			<-free
		}
	})
	c, far := pair(t, ln)
	r := register(t, p, c)
	done := r.serve(t)
	for range 3 {
		far.Write([]byte("x"))
		need.Wait(t, "the timer goes", p.relief.watches.Load)
		need.Wait(t, "the timer rests", func() bool { return !p.relief.watches.Load() })
	}
	hang.Store(true)
	far.Write([]byte("y"))
	within(t, "a round is stuck", stuck)
	far.Close()
	within(t, "another goroutine reads on", done)
	close(free)
}
