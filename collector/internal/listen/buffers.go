package listen

import (
	"math/bits"
	"net"

	"golang.org/x/sys/unix"
)

// What the kernel keeps for connections comes out of one pot for all of TCP on the
// machine (tcp_mem). Where that is empty it throws away what comes, of every sender, who
// then waits for ever longer before he sends again: thousands of connections that fill
// their buffers need no more than that.
const (
	// sendBuffer is for replies that are not taken, as the kernel is told (it takes
	// twice as much): 4,096 of them, a window of our forwarder's.
	sendBuffer = 64 << 10
	// receiveTotal divided by how many there are is what the buffer of a new connection
	// may take, as told, where that is more than receiveFree. Fewer have the size that the
	// kernel finds best: a single sender far away needs megabytes. All the others
	// together, up to 10,000, are told less than 400 MiB.
	receiveTotal = 128 << 20
	receiveFree  = 256
	// receiveLeast is the size below which none goes: a record of any size with room
	// for what the kernel itself takes.
	receiveLeast = 24 << 10
)

// receiveBuffer is the size of the receive buffer of the n-th connection, 0 where the
// kernel decides. It changes where n doubles.
func receiveBuffer(n int) int {
	if n <= receiveFree {
		return 0
	}
	return max(receiveTotal>>bits.Len(uint(n-1)), receiveLeast) //nolint:gosec // more than 0
}

// setBuffers has the next connection get its part of the buffers. It has it from its listening
// socket, and so before its sender is told how much to send: a buffer made smaller later
// throws away what is on its way, and thousands of senders that send it again all at once
// drown the others.
func (l *Listener) setBuffers() {
	l.mu.Lock() // also while it is set: of two changes the later one is to hold
	defer l.mu.Unlock()
	size := receiveBuffer(len(l.conns) + 1)
	if size == l.buffers {
		return
	}
	l.buffers = size
	for _, ln := range l.ln {
		setReceiveBuffer(ln, size, l.defaultBuffer)
	}
}

// setReceiveBuffer sets what ln's connections inherit: a size, or the kernel's own
// choice, which begins with its default. It is of use only, not needed: a failure is left
// alone.
func setReceiveBuffer(ln *net.TCPListener, size, kernels int) {
	raw, err := ln.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if size != 0 {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size)
			return
		}
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, kernels/2) // it takes twice as much
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BUF_LOCK, 0)       // before 5.14: stays of that size
	})
}

// bufferOf is the receive buffer that a new listening socket has, the kernel's default.
func bufferOf(ln *net.TCPListener) (size int) {
	raw, err := ln.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { size, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) })
	return size
}
