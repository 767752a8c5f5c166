package poll

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// roundEvents is the most light connections of a round.
	roundEvents = 256
	// halfWithin is how soon half of the senders are to have their answers where rounds wait for more: each round costs a
	// wake-up and a sync. pauseMost bounds it for the others.
	halfWithin = 4500 * time.Microsecond
	pauseMost  = 6 * time.Millisecond
	// pauseBelow is how many connections are little.
	pauseBelow = 128
	// busyNap is how long heavy connections wait at least that have to.
	busyNap = 2 * time.Millisecond
	// hotFor is how long a connection stays hot, and hotWait how many milliseconds a
	// thread waits for it.
	hotFor  = 20 * time.Millisecond
	hotWait = 5
)

// Poller waits for connections in a goroutine of its own.
type Poller struct {
	epolls [classes]int // their descriptors
	gate   *gate        // to that of the light connections
	after  func()
	busy   func() bool
	start  time.Time
	hot    atomic.Int64 // ns after start until which nobody pauses
	wg     sync.WaitGroup
	counts [classes]atomic.Int64 // connections of each class
	relief relief

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
	var err error
	if p.gate, err = openGate(p.epolls[Light]); err != nil {
		return nil, errors.Join(err, p.closeEpolls(Light))
	}
	p.relief.init(p)
	p.wg.Add(1)
	go p.run()
	return p, nil
}

// Close ends the goroutine. Every Handle is closed.
func (p *Poller) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.relief.timer.Stop()
	err := p.gate.wake()
	p.wg.Wait()
	return errors.Join(err, p.gate.close(), p.closeEpolls(Light))
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

// IsHot says whether one did within the last moment.
func (p *Poller) IsHot() bool { return int64(time.Since(p.start)) < p.hot.Load() }

// run does rounds until it is relieved, or the poller is closed.
func (p *Poller) run() {
	defer p.wg.Done()
	events := make([]unix.EpollEvent, roundEvents)
	var pc pace
	for {
		n, err := p.next(events, &pc)
		if err != nil {
			return // closed
		}
		pc.began = time.Now()
		if p.serve(events[:n]) {
			time.Sleep(busyNap)
		}
		ending := p.relief.begin()
		p.after()
		if !p.relief.end(ending) {
			return
		}
		pc.took += (time.Since(pc.began) - pc.took) / 8
	}
}

// pace is what a goroutine that does rounds knows of the last ones.
type pace struct {
	began time.Time     // the last one
	took  time.Duration // a round, on average
	only  int32         // onlyOf the last one
	// even says that rounds follow one another by a pause, and that nothing which comes
	// meanwhile wakes anybody.
	even bool
}

// left is how long the next round has to wait for more, where it waits: a pause after the last one began. Who comes
// within it waits for half of it on average, and for the round.
func (pc *pace) left() time.Duration {
	return min(2*(halfWithin-pc.took), pauseMost) - time.Since(pc.began)
}

// next waits until a round is due, and returns how many events it begins with. It fails when the poller is
// closed.
func (p *Poller) next(events []unix.EpollEvent, pc *pace) (n int, err error) {
	for n == 0 {
		switch left := pc.left(); {
		case p.IsHot():
			// The next one comes in a moment, and the shortest way counts.
			pc.even = false
			if n = p.nextHot(events); n > 0 {
				pc.only = onlyOf(events[:n])
				return n, nil
			}
			err = p.gate.untilReady()
		case pc.even && left > 0:
			err = p.gate.until(left)
		default:
			if n = readyNow(p.epolls[Light], events); n == 0 {
				err = p.gate.untilReady()
			}
		}
		if err != nil {
			return 0, err
		}
		if n == 0 {
			n = readyNow(p.epolls[Light], events)
		}
		was := pc.even
		if pc.even = was && n > 1; was {
			continue // it has had its pause
		}
		if left := pc.left(); left > 0 && pc.isLittle(events[:n]) && !p.IsHot() {
			if err := p.gate.until(left); err != nil {
				return 0, err
			}
			n = readyNow(p.epolls[Light], events)
			pc.even = n > 1
		}
	}
	pc.only = onlyOf(events[:n])
	return n, nil
}

// onlyOf is the one light connection that is ready, -1 where it is not one.
func onlyOf(events []unix.EpollEvent) int32 {
	if len(events) != 1 {
		return -1
	}
	return max(events[0].Fd, -1)
}

// nextHot waits in the kernel, for a moment.
func (p *Poller) nextHot(events []unix.EpollEvent) int {
	n, err := unix.EpollWait(p.epolls[Light], events, hotWait)
	if err != nil {
		return 0 // interrupted
	}
	return n
}

// isLittle says whether a round for what is ready had better wait for more. Where connections are ready that
// are not light, how many is not known, and they do not send a record now and then. Where it is
// the one of the last round, it has had its answer and has gone on, and nobody else has come.
func (pc *pace) isLittle(events []unix.EpollEvent) bool {
	if len(events) == 0 || len(events) >= pauseBelow || len(events) == 1 && events[0].Fd == pc.only {
		return false
	}
	return !slices.ContainsFunc(events, func(e unix.EpollEvent) bool { return e.Fd < 0 })
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
