package poll

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Connections are light or heavy, by what their turns bring: ready says so. The heavy
// ones are watched by an epoll of their own, which the first one watches. In a round all
// light ones that are ready come first: a sender with a record now and then does not wait
// for thousands that always have something. What is left of the round's time is for the
// heavy ones, each at most once, by turns: the kernel puts those it has named behind the
// others. While all that is ready fits in a round, it is only an order.
const (
	// roundTime is how long a round goes on with what is ready: then its end is due,
	// which has the records of those before stored and answered.
	roundTime = 10 * time.Millisecond
	// heavyTime is what there is for heavy connections at least, however long the light
	// ones took.
	heavyTime = 5 * time.Millisecond
	// heavyTurns is how many light turns make a heavy connection a light one again.
	heavyTurns = 4
	// heavyStep is how many heavy ones are asked for at a time: one that was named and
	// that there was no time for has lost its place.
	heavyStep = 8
	// heavySlot is the number that the heavy ones' epoll has in the first one.
	heavySlot = -1
)

// openEpolls makes both.
func (p *Poller) openEpolls() (err error) {
	p.ep, p.heavyEp = -1, -1
	defer func() {
		if err != nil {
			err = errors.Join(err, p.closeEpolls())
		}
	}()
	if p.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		p.heavyEp, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	}
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	err = unix.EpollCtl(p.ep, unix.EPOLL_CTL_ADD, p.heavyEp, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: heavySlot})
	if err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	return os.NewSyscallError("fcntl", unix.SetNonblock(p.ep, true))
}

// closeEpolls closes what openEpolls made and nobody has taken over.
func (p *Poller) closeEpolls() error {
	var errs []error
	for _, fd := range []*int{&p.ep, &p.heavyEp} {
		if *fd >= 0 {
			errs = append(errs, unix.Close(*fd))
			*fd = -1
		}
	}
	return errors.Join(errs...)
}

// serve calls ready for what is ready while there is time. What is left is ready in the
// next round, too.
func (p *Poller) serve(events []unix.EpollEvent) {
	began := time.Now()
	heavy := false
	for i := range events {
		if events[i].Fd == heavySlot {
			heavy = true
			continue
		}
		p.dispatch(&events[i])
	}
	if heavy {
		p.serveHeavy(began)
	}
}

func (p *Poller) serveHeavy(began time.Time) {
	end := began.Add(roundTime)
	if least := time.Now().Add(heavyTime); least.After(end) {
		end = least
	}
	p.mu.Lock()
	left := p.heavies
	p.mu.Unlock()
	var events [heavyStep]unix.EpollEvent
	for left > 0 && time.Now().Before(end) {
		asked := min(left, heavyStep)
		n, _ := unix.EpollWait(p.heavyEp, events[:asked], 0) // interrupted: in the next round
		for i := range n {
			p.dispatch(&events[i])
		}
		if n < asked {
			return
		}
		left -= n
	}
}

// weigh notes what a turn was. mu is held.
func (h *Handle) weigh(light bool) {
	switch {
	case !light:
		h.turns = heavyTurns
	case h.turns > 0:
		h.turns--
	}
	if heavy := h.turns > 0; heavy != h.heavy {
		h.move(heavy)
	}
}

// move has the other epoll watch a connection. mu is held.
func (h *Handle) move(heavy bool) {
	armed, waits := h.armed, h.waits
	h.armed, h.waits = false, [2]chan struct{}{}
	err := h.update()
	h.heavy = heavy
	h.armed, h.waits = armed, waits
	if heavy {
		h.p.heavies++
	} else {
		h.p.heavies--
	}
	h.failed = errors.Join(err, h.update())
}

// watches is the epoll that watches a connection. mu is held.
func (h *Handle) watches() int {
	if h.heavy {
		return h.p.heavyEp
	}
	return h.p.ep
}
