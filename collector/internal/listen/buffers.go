package listen

import (
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/poll"
)

// What the kernel keeps for connections comes out of one pot for all of TCP on the
// machine (tcp_mem). Where that is empty it throws away what comes, of every sender, who
// then waits for ever longer before he sends again: thousands of connections that fill
// their buffers need no more than that.
const (
	// sendBuffer is for replies that are not taken, as the kernel is told (it takes
	// twice as much): 4,096 of them, a window of our forwarder's.
	sendBuffer = 64 << 10
	// receiveTotal is what the buffers of all connections may take together, as told,
	// once there are more than receiveFree. Fewer have the size that the kernel finds
	// best: a single sender far away needs megabytes.
	receiveTotal = 128 << 20
	receiveFree  = 256
	// receiveLeast is the size below which none goes: a record of any size with room
	// for what the kernel itself takes.
	receiveLeast = 24 << 10
)

// receiveBuffer is the size of each receive buffer where n connections are open, 0 where
// the kernel decides. It changes where n doubles.
func receiveBuffer(n int) int {
	if n <= receiveFree {
		return 0
	}
	return max(receiveTotal>>bits.Len(uint(n-1)), receiveLeast) //nolint:gosec // more than 0
}

// share gives a new connection its share of the buffers, and all others theirs when there
// are now so many that it is less.
func (l *Listener) share(c *Conn) {
	l.mu.Lock()
	size := receiveBuffer(len(l.conns))
	var all []*Conn
	if size != 0 && (l.shared == 0 || size < l.shared) {
		all = make([]*Conn, 0, len(l.conns))
		for other := range l.conns {
			all = append(all, other)
		}
	}
	l.shared = size
	l.mu.Unlock()
	if size == 0 {
		return
	}
	setReceiveBuffer(c.sock, size)
	for _, other := range all {
		setReceiveBuffer(other.sock, size)
	}
}

// setReceiveBuffer is of use only, not needed: a failure is the connection's end.
func setReceiveBuffer(c *poll.Conn, size int) {
	_ = c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size) })
}
