package poll

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// roundEvents is the most connections of a round.
	roundEvents = 256
	// nap is how long a round with little to do waits for more, unless something is
	// hot: no longer than nobody notices.
	nap = 2 * time.Millisecond
	// napBelow is how many connections are little.
	napBelow = 32
	// napAfter is how long ago the last round may be for a nap: where rounds are
	// rare, there is nothing to wait for.
	napAfter = 5 * time.Millisecond
	// hotFor is how long a connection stays hot.
	hotFor = 20 * time.Millisecond
	// stuckAfter is how long the end of a round may take before another goroutine
	// takes the connections over.
	stuckAfter = 100 * time.Millisecond
)

// Poller waits for connections in a goroutine of its own.
type Poller struct {
	ep, event int // descriptors: the epoll's, and of an event that ends it
	after     func()
	start     time.Time
	hot       atomic.Int64 // ns after start until which nobody naps
	wg        sync.WaitGroup
	stuck     *time.Timer
	turn      atomic.Uint64 // whose goroutine's turn it is

	mu     sync.Mutex
	slots  []*Handle // guarded by mu; by number
	free   []int32   // guarded by mu: numbers not in use
	gen    int32     // guarded by mu: of the next handle
	closed bool      // guarded by mu
}

// Open starts a Poller. after is called at the end of each round, in which ready was
// called for each connection with something to be read. It may block: when it does
// so for long, rounds go on in another goroutine.
func Open(after func()) (*Poller, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, event, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1})
		if err != nil {
			_ = unix.Close(event)
		}
	}
	if err != nil {
		_ = unix.Close(ep)
		return nil, os.NewSyscallError("eventfd", err)
	}
	p := &Poller{ep: ep, event: event, after: after, start: time.Now()}
	p.stuck = time.AfterFunc(time.Hour, p.relieve)
	p.stuck.Stop()
	p.wg.Add(1)
	go p.run(0)
	return p, nil
}

// Close ends the goroutine. Every Handle is closed.
func (p *Poller) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_, err := unix.Write(p.event, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	p.wg.Wait()
	return errors.Join(err, unix.Close(p.event), unix.Close(p.ep))
}

// Hot says that a connection sends as fast as it is answered, or faster: for a
// moment, no round waits for more.
func (p *Poller) Hot() { p.hot.Store(int64(time.Since(p.start) + hotFor)) }

// run does rounds while it is its turn.
func (p *Poller) run(turn uint64) {
	defer p.wg.Done()
	events := make([]unix.EpollEvent, roundEvents)
	var last time.Time
	for p.turn.Load() == turn {
		n, err := unix.EpollWait(p.ep, events, -1)
		if n > 0 && n < napBelow && p.mayNap(last) {
			time.Sleep(nap)
			n, err = unix.EpollWait(p.ep, events, 0)
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			panic(fmt.Sprintf("epoll_wait: %v", err)) // a descriptor of ours is none
		}
		for i := range max(n, 0) {
			if events[i].Fd < 0 {
				if p.over() {
					return
				}
				continue
			}
			p.dispatch(&events[i])
		}
		p.stuck.Reset(stuckAfter)
		p.after()
		if p.turn.Load() == turn {
			p.stuck.Stop()
		}
		last = time.Now()
	}
}

func (p *Poller) mayNap(last time.Time) bool {
	now := time.Now()
	return now.Sub(last) < napAfter && int64(now.Sub(p.start)) > p.hot.Load()
}

func (p *Poller) over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// relieve has another goroutine go on where one is stuck at the end of a round. That
// one ends when it comes back.
func (p *Poller) relieve() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.wg.Add(1)
	go p.run(p.turn.Add(1))
}

// dispatch hands out what is ready of one connection.
func (p *Poller) dispatch(e *unix.EpollEvent) {
	const failed = unix.EPOLLERR | unix.EPOLLHUP
	p.mu.Lock()
	h := p.slots[e.Fd]
	if h == nil || h.gen != e.Pad {
		p.mu.Unlock()
		return // closed earlier in this round
	}
	was := h.waits
	if e.Events&(unix.EPOLLOUT|failed) != 0 {
		h.tell(Out)
	}
	if e.Events&(unix.EPOLLIN|failed) != 0 {
		h.tell(In)
	}
	if h.waits != was {
		h.failed = h.update()
	}
	run := e.Events&(unix.EPOLLIN|failed) != 0 && h.armed && !h.running
	h.running = h.running || run
	p.mu.Unlock()
	if !run {
		return
	}
	stays := h.ready()
	p.mu.Lock()
	h.running = false
	if !stays || h.kicked {
		h.giveBack()
	}
	p.mu.Unlock()
}
