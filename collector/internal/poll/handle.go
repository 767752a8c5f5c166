package poll

import (
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Direction is what a goroutine waits for.
type Direction int

// In is something to be read, Out room to write.
const (
	In Direction = iota
	Out
)

// Handle is a connection's place at a Poller.
//
// The connection is the poller's while armed is true: Serve sets it, and handBack, which
// is called once for that, ends it and lets Serve return. ready is called only while
// armed is true, and running is true then: a Kick that comes meanwhile leaves the hand
// back to dispatch, which looks at kicked when ready has returned. So the poller and the
// goroutine in Serve never have the connection both.
type Handle struct {
	// Set by Register.
	p     *Poller
	fd    int
	slot  int32 // in Poller.slots, and in the epoll's events
	gen   int32 // of the slot: an event of a handle that had it before is passed over
	ready func() (stays bool, c Class)
	back  chan struct{} // of 1: the connection is handed back to the goroutine in Serve

	// Guarded by p.mu.
	armed   bool // the poller has the connection
	running bool // it is in ready
	kicked  bool // Serve is to return, or the next one
	closed  bool
	events  uint32           // that the epoll watches for
	waits   [2]chan struct{} // by direction: closed when it is ready; nil while nobody waits
	failed  error            // of the epoll; Serve returns it
	class   Class            // whose epoll watches it
}

// Register gives c a place. ready is called in the poller's goroutine, while Serve
// runs, when there is something to be read or the connection is over; it returns
// whether the poller keeps the connection, and of which class it is from now on. c stays
// open until Handle.Close.
func (p *Poller) Register(c *Conn, ready func() (stays bool, c Class)) (*Handle, error) {
	h := &Handle{p: p, ready: ready, back: make(chan struct{}, 1), class: Fresh}
	if err := c.Control(func(fd uintptr) { h.fd = int(fd) }); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gen++
	h.gen = p.gen
	if n := len(p.free); n > 0 {
		h.slot = p.free[n-1]
		p.free = p.free[:n-1]
	} else {
		h.slot = int32(len(p.slots)) //nolint:gosec // descriptors are fewer
		p.slots = append(p.slots, nil)
	}
	p.slots[h.slot] = h
	p.counts[h.class].Add(1)
	return h, nil
}

// Serve leaves the connection to the poller until ready gives it back, or a Kick
// does.
func (h *Handle) Serve() error {
	h.p.mu.Lock()
	if h.kicked {
		h.kicked = false
		h.p.mu.Unlock()
		return nil
	}
	h.armed = true
	if h.failed = h.update(); h.failed != nil {
		h.armed = false
		h.p.mu.Unlock()
		return h.failed
	}
	h.p.mu.Unlock()
	<-h.back
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	return h.failed
}

// Kick makes Serve return, or the next one if none runs.
func (h *Handle) Kick() {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	h.kicked = true
	if h.armed && !h.running {
		h.handBack()
	}
}

// handBack gives the connection back to the goroutine in Serve. mu is held.
func (h *Handle) handBack() {
	h.armed, h.kicked = false, false
	h.failed = h.update()
	h.back <- struct{}{}
}

// Wait returns when the direction is ready, or the connection is over; after limit it
// returns os.ErrDeadlineExceeded. One goroutine may wait for each direction, for In
// only outside of Serve.
func (h *Handle) Wait(d Direction, limit time.Duration) error {
	ready := make(chan struct{})
	h.p.mu.Lock()
	err := net.ErrClosed
	if !h.closed {
		h.waits[d] = ready
		err = h.update()
	}
	h.p.mu.Unlock()
	if err != nil {
		return err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ready:
		return nil
	case <-timer.C:
	}
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	if h.waits[d] == nil {
		return nil // just now
	}
	h.waits[d] = nil
	if err := h.update(); err != nil {
		return err
	}
	return os.ErrDeadlineExceeded
}

// wakeWaiter wakes the goroutine that waits for a direction. mu is held.
func (h *Handle) wakeWaiter(d Direction) {
	if h.waits[d] != nil {
		close(h.waits[d])
		h.waits[d] = nil
	}
}

// update makes the epoll watch what is wanted. mu is held.
func (h *Handle) update() error {
	want := uint32(0)
	if h.armed || h.waits[In] != nil {
		want |= unix.EPOLLIN
	}
	if h.waits[Out] != nil {
		want |= unix.EPOLLOUT
	}
	if h.closed || want == h.events {
		return nil
	}
	op := unix.EPOLL_CTL_MOD
	switch {
	case want == 0: // an end of the connection would be told even so
		op = unix.EPOLL_CTL_DEL
	case h.events == 0:
		op = unix.EPOLL_CTL_ADD
	}
	h.events = want
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(h.p.epolls[h.class], op, h.fd, &unix.EpollEvent{Events: want, Fd: h.slot, Pad: h.gen}))
}

// Close gives the place up. Nobody is in Serve. It may be called again.
func (h *Handle) Close() {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	if h.closed {
		return
	}
	h.armed = false
	h.wakeWaiter(In)
	h.wakeWaiter(Out)
	_ = h.update() // the descriptor is still open
	h.closed = true
	h.p.counts[h.class].Add(-1)
	h.p.slots[h.slot] = nil
	h.p.free = append(h.p.free, h.slot)
}
