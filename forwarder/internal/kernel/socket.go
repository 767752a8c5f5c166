package kernel

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

// Datagram is the buffer for one message. Recv writes the message into Buf and sets N (its
// length in Buf), Truncated and Foreign. It is valid until the next Recv with it.
type Datagram struct {
	Buf       []byte
	N         int
	Truncated bool
	Foreign   bool // sent by a process, not by the kernel
}

// Socket is a netlink audit socket as the Listener and Conn use it. NewSocket
// makes the kernel's; package fakekernel has one for tests. Recv, Wait and Pause
// are called by one goroutine at a time, Send, Wake and Memory by any.
type Socket interface {
	// Send sends one request to the kernel.
	Send(msg []byte) error
	// Recv receives up to len(d) messages and returns how many; it never waits. Errors:
	// unix.EAGAIN when there is none, unix.ENOBUFS when the kernel could not deliver some.
	Recv(d []Datagram) (int, error)
	// Wait returns when something can be received, when Wake was called, or
	// after the timeout (negative: none).
	Wait(timeout time.Duration) error
	// Pause waits for Wake or for d: what can be received does not end it, so
	// that the socket's buffer collects meanwhile.
	Pause(d time.Duration)
	Wake()
	// Granted says how large a receive buffer the kernel gave, and whether it
	// was forced past net.core.rmem_max.
	Granted() (bytes int, forced bool)
	// Memory says how much of the receive buffer is in use and how many
	// datagrams the kernel has dropped for this socket since it was opened.
	Memory() (used, limit int, drops uint32, err error)
	// PortID is the socket's own address.
	PortID() uint32
	Close() error
}

// SocketConfig configures NewSocket.
type SocketConfig struct {
	Group         uint32 // multicast group to join, 0: none
	ReceiveBuffer int    // bytes to ask for, 0: the system's default
}

const (
	multicastGroup = 1  // AUDIT_NLGRP_READLOG
	soMemInfo      = 55 // SO_MEMINFO, fills nine uint32 (linux/sock_diag.h)
)

type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// netlinkSocket is a non-blocking AF_NETLINK socket whose reader waits in the
// runtime's poller. A thread that waited in poll(2) by itself would keep the
// runtime's monitor awake, every 20 µs for up to 10 ms after each batch: that was
// half of all CPU time on a quiet host.
//
// The poller does not see the socket itself, which would wake a thread for each
// record that comes during a Pause, but an epoll descriptor that reports the
// socket once each time it is armed.
type netlinkSocket struct {
	fd     int
	epoll  int
	file   *os.File // of epoll, for the runtime's poller
	raw    syscall.RawConn
	port   uint32
	got    int // receive buffer the kernel granted, as asked (half of what it accounts)
	forced bool

	mu       sync.Mutex  // guards woken, and the file's deadline
	woken    bool        // Wake was called and no Wait has ended by it
	awake    wake.Signal // likewise, for Pause
	deadline bool        // one is set; the reader's own
	timer    *time.Timer // Pause's

	// For recvmmsg, made once: the kernel writes into them in every call.
	hdrs  []mmsghdr
	iovs  []unix.Iovec
	names []unix.RawSockaddrNetlink
}

// NewSocket opens a NETLINK_AUDIT socket of the kernel's. The caller must Close it.
func NewSocket(cfg SocketConfig) (_ Socket, err error) {
	s := &netlinkSocket{fd: -1, awake: wake.New()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	s.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.NETLINK_AUDIT)
	if err != nil {
		return nil, fmt.Errorf("open the audit netlink socket: %w%s", err, openHint(err))
	}
	if err := s.openPoller(); err != nil {
		return nil, fmt.Errorf("poll the audit netlink socket: %w", err)
	}
	addr := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if cfg.Group != 0 {
		addr.Groups = 1 << (cfg.Group - 1)
	}
	if err := unix.Bind(s.fd, addr); err != nil {
		return nil, fmt.Errorf("bind the audit netlink socket (group %d): %w%s", cfg.Group, err, bindHint(err, cfg.Group))
	}
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return nil, fmt.Errorf("name of the audit netlink socket: %w", err)
	}
	if nl, ok := name.(*unix.SockaddrNetlink); ok {
		s.port = nl.Pid
	}
	if cfg.ReceiveBuffer > 0 {
		if err := s.setReceiveBuffer(cfg.ReceiveBuffer); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// openHint says why there is no such socket and what to do.
func openHint(err error) string {
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return ": " + boot.NoAudit("")
	}
	return ""
}

// bindHint says why the multicast group may not be joined and what to do.
func bindHint(err error, group uint32) string {
	switch {
	case !errors.Is(err, unix.EPERM) || group == 0:
		return ""
	case boot.FirstUserNamespace("") == boot.No:
		return ": the multicast group can be joined only from the user namespace that the machine booted with, and this process is in another one (a container): run it on the host"
	}
	return ": joining the multicast group needs CAP_AUDIT_READ: run it as root, or with AmbientCapabilities=CAP_AUDIT_READ in its unit"
}

// openPoller makes the epoll descriptor, with the socket in it and not armed.
func (s *netlinkSocket) openPoller() error {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	// The runtime takes only descriptors that say they don't block.
	if err := unix.SetNonblock(epoll, true); err != nil {
		return errors.Join(err, unix.Close(epoll))
	}
	s.epoll, s.file = epoll, os.NewFile(uintptr(epoll), "audit netlink poll")
	if err := s.file.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		return err
	}
	return unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLONESHOT})
}

func (s *netlinkSocket) setReceiveBuffer(n int) error {
	s.forced = true
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, n); err != nil {
		// Needs CAP_NET_ADMIN; net.core.rmem_max bounds what anybody may have.
		s.forced = false
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, n); err != nil {
			return fmt.Errorf("set the receive buffer to %d bytes: %w", n, err)
		}
	}
	got, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return fmt.Errorf("read the receive buffer's size: %w", err)
	}
	s.got = got / 2
	return nil
}

func (s *netlinkSocket) PortID() uint32 { return s.port }

func (s *netlinkSocket) Granted() (int, bool) { return s.got, s.forced }

func (s *netlinkSocket) Send(msg []byte) error {
	for {
		err := unix.Sendto(s.fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err == unix.EINTR {
			continue
		}
		return err
	}
}

func (s *netlinkSocket) Recv(d []Datagram) (int, error) {
	if len(d) == 0 {
		return 0, unix.EINVAL
	}
	if len(s.hdrs) < len(d) {
		s.hdrs = make([]mmsghdr, len(d))
		s.iovs = make([]unix.Iovec, len(d))
		s.names = make([]unix.RawSockaddrNetlink, len(d))
	}
	for i := range d {
		s.iovs[i].Base = &d[i].Buf[0]
		s.iovs[i].SetLen(len(d[i].Buf))
		h := &s.hdrs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&s.names[i]))
		h.Namelen = unix.SizeofSockaddrNetlink
		h.Iov = &s.iovs[i]
		h.SetIovlen(1)
		h.Flags = 0
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.hdrs[0])), uintptr(len(d)),
		unix.MSG_DONTWAIT, 0, 0)
	runtime.KeepAlive(d)
	if errno != 0 {
		return 0, errno
	}
	for i := range d[:n] {
		d[i].N = min(int(s.hdrs[i].len), len(d[i].Buf))
		d[i].Truncated = s.hdrs[i].hdr.Flags&unix.MSG_TRUNC != 0
		d[i].Foreign = s.names[i].Pid != 0
	}
	return int(n), nil
}

func (s *netlinkSocket) Wait(timeout time.Duration) error {
	if s.takeWake() {
		return nil
	}
	if err := s.expire(timeout); err != nil {
		return err
	}
	// What is there already is reported at once.
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_MOD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT}); err != nil {
		return fmt.Errorf("poll the audit netlink socket: %w", err)
	}
	var perr error
	err := s.raw.Read(func(fd uintptr) bool {
		var events [1]unix.EpollEvent
		for {
			var n int
			if n, perr = unix.EpollWait(int(fd), events[:], 0); perr != unix.EINTR {
				return n > 0 || perr != nil
			}
		}
	})
	if err = errors.Join(err, perr); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("poll the audit netlink socket: %w", err)
	}
	s.takeWake()
	return nil
}

// expire sets the poller's deadline to timeout from now, unless a Wake came first: then
// the wait must not begin.
func (s *netlinkSocket) expire(timeout time.Duration) error {
	if timeout < 0 && !s.deadline {
		return nil
	}
	var at time.Time
	if timeout >= 0 {
		at = time.Now().Add(timeout)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.woken {
		return nil
	}
	if err := s.file.SetReadDeadline(at); err != nil {
		return fmt.Errorf("poll the audit netlink socket: %w", err)
	}
	s.deadline = timeout >= 0
	return nil
}

// takeWake says whether Wake was called, once.
func (s *netlinkSocket) takeWake() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.woken {
		return false
	}
	s.woken, s.deadline = false, true
	select {
	case <-s.awake:
	default:
	}
	return true
}

func (s *netlinkSocket) Pause(d time.Duration) {
	if s.timer == nil {
		s.timer = time.NewTimer(d)
	} else {
		s.timer.Reset(d)
	}
	select {
	case <-s.timer.C:
	case <-s.awake:
		// It stays: the Wait that follows must see it too.
		s.timer.Stop()
		s.awake.Set()
	}
}

func (s *netlinkSocket) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.woken = true
	s.awake.Set()
	// It fails when the socket is closed, and then nobody waits.
	_ = s.file.SetReadDeadline(time.Unix(1, 0))
}

func (s *netlinkSocket) Memory() (used, limit int, drops uint32, err error) {
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, soMemInfo,
		uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, 0, 0, fmt.Errorf("read the socket's memory use: %w", errno)
	}
	return int(info[0]), int(info[1]), info[8], nil
}

func (s *netlinkSocket) Close() error {
	var errs []error
	if s.file != nil {
		if err := s.file.Close(); !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if s.fd >= 0 {
		errs = append(errs, unix.Close(s.fd))
		s.fd = -1
	}
	return errors.Join(errs...)
}
