package poll

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// gate is what the poller's goroutine sleeps at: an epoll of two, that of the light connections and a
// timer, of which one is watched at a time. Whoever sleeps until a time is not woken by each
// connection on which something comes meanwhile, and the timer is the kernel's: one of the runtime's
// wakes its monitor and another thread as well.
//
// Only the goroutine whose turn it is uses it. Where its turn is over while it sleeps, both wake and
// look.
type gate struct {
	epoll, timer, light int
	file                *os.File // of epoll
	// wait is epoll as a descriptor of the runtime's poller: waiting for it blocks no thread.
	wait  syscall.RawConn
	looks int // how often it was looked whether there is anything; who sleeps counts
}

func openGate(light int) (_ *gate, err error) {
	g := &gate{epoll: -1, timer: -1, light: light}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.wake(), g.close())
		}
	}()
	if g.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(g.epoll, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	g.file = os.NewFile(uintptr(g.epoll), "epoll")
	if g.wait, err = g.file.SyscallConn(); err != nil {
		return nil, err
	}
	if g.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	// The timer once for each time that it is over, without being read; the light ones when they are asked for.
	err = unix.EpollCtl(g.epoll, unix.EPOLL_CTL_ADD, g.timer, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(g.timer)}) //nolint:gosec // a descriptor
	if err == nil {
		err = unix.EpollCtl(g.epoll, unix.EPOLL_CTL_ADD, light, &unix.EpollEvent{Events: unix.EPOLLONESHOT, Fd: int32(light)}) //nolint:gosec // a descriptor
	}
	return g, os.NewSyscallError("epoll_ctl", err)
}

// wake ends the gate: who sleeps is woken, and its call fails.
func (g *gate) wake() error {
	if g.file != nil {
		return g.file.Close()
	}
	if g.epoll >= 0 {
		return unix.Close(g.epoll)
	}
	return nil
}

// close follows wake, once nobody sleeps any more. The epoll of the light connections is not the gate's.
func (g *gate) close() error {
	if g.timer >= 0 {
		return unix.Close(g.timer)
	}
	return nil
}

// untilReady sleeps until a light connection, or the epoll of another class, is ready.
func (g *gate) untilReady() error {
	return g.sleep(func() error {
		return unix.EpollCtl(g.epoll, unix.EPOLL_CTL_MOD, g.light, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(g.light)}) //nolint:gosec // a descriptor
	})
}

// until sleeps for a time, whatever comes.
func (g *gate) until(d time.Duration) error {
	return g.sleep(func() error {
		spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(d, 1)))}
		return unix.TimerfdSettime(g.timer, 0, &spec, nil)
	})
}

// sleep arms what is to end it once the runtime watches, so that nothing is missed. It takes
// what it was woken by: both are then armed no longer.
func (g *gate) sleep(arm func() error) error {
	armed := false
	var failed error
	err := g.wait.Read(func(uintptr) bool {
		if !armed {
			armed = true
			if failed = arm(); failed != nil {
				return true
			}
		}
		g.looks++
		var events [2]unix.EpollEvent
		return readyNow(g.epoll, events[:]) != 0
	})
	return errors.Join(err, failed)
}
