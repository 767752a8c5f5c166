package poll

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Class says how soon a connection's turn comes. Each class is watched by an epoll of its
// own; the one of the light connections watches the two others. In a round all light ones
// that are ready come first: a sender with a record now and then does not wait for
// thousands that always have something. Then there is some time for the fresh ones, of
// which nothing is known yet, and some for the heavy ones, each at most once, by turns: the
// kernel puts those it has named behind the others. While all that is ready fits in a
// round, it is only an order.
type Class uint8

// A connection is fresh until ready says what it is, and heavy without a turn when much is
// waiting.
const (
	Light Class = iota
	Fresh
	Heavy
	classes = 3
)

const (
	// roundTime is how long a round goes on with what is ready: then its end is due,
	// which has the records of those before stored and answered.
	roundTime = 10 * time.Millisecond
	// freshTime is what there is for fresh connections at most, and heavyTime for heavy
	// ones at least, however long the others took.
	freshTime = 5 * time.Millisecond
	heavyTime = 5 * time.Millisecond
	// step is how many of a class are asked for at a time: one that was named and that
	// there was no time for has lost its place.
	step = 8
	// freshBytes is the most that a fresh connection may have waiting.
	freshBytes = 1 << 10
)

// slotOf is the number that the epoll of a class has in that of the light ones.
func slotOf(c Class) int32 { return -int32(c) }

// openEpolls makes them.
func (p *Poller) openEpolls() (err error) {
	p.epolls = [classes]int{-1, -1, -1}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.closeEpolls(Light))
		}
	}()
	for c := range p.epolls {
		if p.epolls[c], err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			return os.NewSyscallError("epoll_create1", err)
		}
	}
	for _, c := range []Class{Fresh, Heavy} {
		err = unix.EpollCtl(p.epolls[Light], unix.EPOLL_CTL_ADD, p.epolls[c], &unix.EpollEvent{Events: unix.EPOLLIN, Fd: slotOf(c)})
		if err != nil {
			return os.NewSyscallError("epoll_ctl", err)
		}
	}
	return nil
}

// closeEpolls closes those of a class and the ones after it.
func (p *Poller) closeEpolls(from Class) error {
	var errs []error
	for _, fd := range p.epolls[from:] {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}

// serve calls ready for what is ready while there is time. What is left is ready in the
// next round, too. It says whether nothing but heavy connections is ready, which have to
// wait.
func (p *Poller) serve(events []unix.EpollEvent) (waits bool) {
	began := time.Now()
	var others [classes]bool
	for i := range events {
		if slot := events[i].Fd; slot < 0 {
			others[-slot] = true
			continue
		}
		p.dispatch(&events[i])
	}
	if others[Fresh] {
		p.serveClass(Fresh, time.Now().Add(freshTime))
	}
	if !others[Heavy] {
		return false
	}
	if p.busy() {
		return len(events) == 1
	}
	end := began.Add(roundTime)
	if least := time.Now().Add(heavyTime); least.After(end) {
		end = least
	}
	p.serveClass(Heavy, end)
	return false
}

// serveClass gives those of a class their turns until end.
func (p *Poller) serveClass(c Class, end time.Time) {
	left := int(p.counts[c].Load())
	var events [step]unix.EpollEvent
	for left > 0 && time.Now().Before(end) {
		asked := min(left, step)
		n := readyNow(p.epolls[c], events[:asked])
		for i := range n {
			p.dispatch(&events[i])
		}
		if n < asked {
			return
		}
		left -= n
	}
}

// tooMuch says whether a connection has more waiting than a fresh one may.
func (h *Handle) tooMuch() bool {
	n, err := unix.IoctlGetInt(h.fd, unix.TIOCINQ)
	return err == nil && n > freshBytes
}

// move has another class's epoll watch a connection. mu is held.
func (h *Handle) move(to Class) {
	if to == h.class {
		return
	}
	armed, waits := h.armed, h.waits
	h.armed, h.waits = false, [2]chan struct{}{}
	err := h.update()
	h.p.counts[h.class].Add(-1)
	h.class = to
	h.p.counts[to].Add(1)
	h.armed, h.waits = armed, waits
	h.failed = errors.Join(err, h.update())
}
