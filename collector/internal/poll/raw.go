package poll

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Calls that never wait, so the runtime need not be told of them: that costs as much as they do, and
// where nothing else goes on it wakes the runtime's monitor, a thread of its own.

// readyNow returns how many of an epoll's descriptors are ready now, and puts them into events, of which there is one
// at least.
func readyNow(epoll int, events []unix.EpollEvent) int {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
		switch errno {
		case 0:
			return int(n)
		case unix.EINTR:
			continue
		}
		panic("epoll_pwait: " + errno.Error()) // a descriptor of ours is none
	}
}

// Read reads from a connection's descriptor what has come, as read(2) does: EAGAIN where that is nothing.
func Read(fd uintptr, p []byte) (int, error) { return transfer(unix.SYS_READ, fd, p) }

// Write writes to a connection's descriptor what there is room for, as write(2) does: EAGAIN where there is none.
func Write(fd uintptr, p []byte) (int, error) { return transfer(unix.SYS_WRITE, fd, p) }

func transfer(call, fd uintptr, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, _, errno := unix.RawSyscall(call, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}
