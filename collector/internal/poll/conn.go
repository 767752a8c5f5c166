package poll

import (
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a connection, by TCP in general, that the runtime's own poller does not know: nothing
// wakes a thread when something comes but a Poller. Its reads and writes don't
// block, they are system calls under Control. Its methods may be called by anybody,
// also after Close.
type Conn struct {
	f   *os.File
	raw syscall.RawConn
}

// Detach makes a Conn of tcp, which is closed, also when it fails.
func Detach(tcp *net.TCPConn) (*Conn, error) {
	fd := -1
	raw, err := tcp.SyscallConn()
	if err == nil {
		var derr error
		err = raw.Control(func(old uintptr) { fd, derr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
		if err == nil {
			err = derr
		}
	}
	if cerr := tcp.Close(); err == nil {
		err = cerr
	}
	// A file that would not block when it is made is the runtime's to wait for.
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return nil, err
	}
	return Own(fd)
}

// Own makes a Conn of a stream socket's descriptor that blocks, and that nobody else uses.
// It is closed also when Own fails. KeepAlive and Reset are of TCP only.
func Own(fd int) (*Conn, error) {
	c := &Conn{f: os.NewFile(uintptr(fd), "socket")}
	err := unix.SetNonblock(fd, true)
	if err == nil {
		c.raw, err = c.f.SyscallConn()
	}
	if err != nil {
		_ = c.f.Close()
		return nil, err
	}
	return c, nil
}

// Control calls f with the descriptor, which stays open meanwhile.
func (c *Conn) Control(f func(fd uintptr)) error { return c.raw.Control(f) }

func (c *Conn) control(op string, f func(fd int) error) error {
	var failed error
	if err := c.raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return os.NewSyscallError(op, failed)
}

// Shutdown ends both directions: whoever waits is woken, reads and writes fail.
func (c *Conn) Shutdown() error {
	return c.control("shutdown", func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) })
}

// CloseWrite ends the direction to the peer.
func (c *Conn) CloseWrite() error {
	return c.control("shutdown", func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
}

// Reset makes Close throw away what is still to be sent.
func (c *Conn) Reset() error {
	return c.control("setsockopt", func(fd int) error {
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0})
	})
}

// KeepAlive has the kernel ask a silent peer for a sign of life: after idle, then
// every interval, count times before it gives the connection up. Times are whole
// seconds.
func (c *Conn) KeepAlive(idle, interval time.Duration, count int) error {
	return c.control("setsockopt", func(fd int) error {
		for _, o := range [][3]int{
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(idle / time.Second)},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(interval / time.Second)},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, count},
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		} {
			if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
				return err
			}
		}
		return nil
	})
}

// Close closes the connection. No Handle of it may be in use any more.
func (c *Conn) Close() error { return c.f.Close() }
