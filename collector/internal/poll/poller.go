package poll

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// roundEvents is the most light connections of a round.
	roundEvents = 256
	// nap is how long a round with little to do waits for more, unless something is
	// hot: no longer than nobody notices.
	nap = 2 * time.Millisecond
	// napBelow is how many connections are little.
	napBelow = 32
	// napAfter is how long ago the last round may be for a nap: where rounds are
	// rare, there is nothing to wait for.
	napAfter = 5 * time.Millisecond
	// hotFor is how long a connection stays hot, and hotWait how many milliseconds a
	// thread waits for it.
	hotFor  = 20 * time.Millisecond
	hotWait = 5
	// relieveAfter is how long the end of a round may take before another goroutine
	// takes the connections over.
	relieveAfter = 100 * time.Millisecond
)

// Poller waits for connections in a goroutine of its own.
type Poller struct {
	epolls [classes]int // their descriptors
	file   *os.File     // of that of the light connections
	// wait is that epoll as a descriptor of the runtime's poller: waiting for it blocks
	// no thread.
	wait   syscall.RawConn
	after  func()
	busy   func() bool
	start  time.Time
	hot    atomic.Int64 // ns after start until which nobody naps
	wg     sync.WaitGroup
	counts [classes]atomic.Int64 // connections of each class
	// turn is the number of the goroutine that does the rounds. Where the end of one
	// takes long, relief raises it and starts the next goroutine; the one before ends
	// when it sees that.
	turn   atomic.Uint64
	relief *time.Timer

	mu     sync.Mutex
	slots  []*Handle // guarded by mu; by number
	free   []int32   // guarded by mu: numbers not in use
	gen    int32     // guarded by mu: of the next handle
	closed bool      // guarded by mu
}

// Open starts a Poller. after is called at the end of each round, in which ready was
// called for each connection with something to be read. It may block: when it does
// so for long, rounds go on in another goroutine. While busy is true, heavy connections
// have no turns.
func Open(after func(), busy func() bool) (*Poller, error) {
	p := &Poller{after: after, busy: busy, start: time.Now()}
	if err := p.openEpolls(); err != nil {
		return nil, err
	}
	p.file = os.NewFile(uintptr(p.epolls[Light]), "epoll")
	var err error
	if p.wait, err = p.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, p.file.Close(), p.closeEpolls(Fresh))
	}
	p.relief = time.AfterFunc(time.Hour, p.relieve)
	p.relief.Stop()
	p.wg.Add(1)
	go p.run(0)
	return p, nil
}

// Close ends the goroutine. Every Handle is closed.
func (p *Poller) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.file.Close()
	p.wg.Wait()
	return errors.Join(err, p.closeEpolls(Fresh))
}

// Len is how many connections it has.
func (p *Poller) Len() (n int) {
	for c := range p.counts {
		n += int(p.counts[c].Load())
	}
	return n
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
		n, err := p.next(events)
		if err == nil && n < napBelow && p.mayNap(last) && !hasOthers(events[:n]) {
			time.Sleep(nap)
			n, err = p.next(events)
		}
		if err != nil {
			return // closed
		}
		if p.serve(events[:n]) {
			time.Sleep(nap)
		}
		p.relief.Reset(relieveAfter)
		p.after()
		if p.turn.Load() == turn {
			p.relief.Stop()
		}
		last = time.Now()
	}
}

// hasOthers says whether connections are ready that are not light: how many is not known,
// and they do not send a record now and then.
func hasOthers(events []unix.EpollEvent) bool {
	return slices.ContainsFunc(events, func(e unix.EpollEvent) bool { return e.Fd < 0 })
}

func (p *Poller) mayNap(last time.Time) bool { return time.Since(last) < napAfter && !p.isHot() }

func (p *Poller) isHot() bool { return int64(time.Since(p.start)) < p.hot.Load() }

// next waits until something is ready and returns how many events there are. It
// fails when the poller is closed.
func (p *Poller) next(events []unix.EpollEvent) (n int, err error) {
	if p.isHot() {
		// The next one comes in a moment, and the shortest way counts.
		err = p.wait.Control(func(fd uintptr) { n, _ = unix.EpollWait(int(fd), events, hotWait) })
		if n > 0 || err != nil {
			return n, err
		}
	}
	var failed error
	err = p.wait.Read(func(fd uintptr) bool {
		for {
			n, failed = unix.EpollWait(int(fd), events, 0)
			if !errors.Is(failed, unix.EINTR) {
				return n != 0
			}
		}
	})
	if err == nil && failed != nil {
		panic(fmt.Sprintf("epoll_wait: %v", failed)) // a descriptor of ours is none
	}
	return n, err
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
		h.wakeWaiter(Out)
	}
	if e.Events&(unix.EPOLLIN|failed) != 0 {
		h.wakeWaiter(In)
	}
	if h.waits != was {
		h.failed = h.update()
	}
	if h.class == Fresh && h.armed && h.tooMuch() {
		h.move(Heavy)
		p.mu.Unlock()
		return // its turn comes with theirs
	}
	run := e.Events&(unix.EPOLLIN|failed) != 0 && h.armed && !h.running
	h.running = h.running || run
	p.mu.Unlock()
	if !run {
		return
	}
	stays, class := h.ready()
	p.mu.Lock()
	h.running = false
	h.move(class)
	if !stays || h.kicked {
		h.handBack()
	}
	p.mu.Unlock()
}
