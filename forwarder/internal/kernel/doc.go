// Package kernel speaks NETLINK_AUDIT with the kernel: a Listener that takes in
// audit records as the registered audit daemon or from the multicast group, and
// a Conn for settings and rules. forwarder/internal/agent, cli and trace may
// import it.
//
// # What the reader promises
//
// The Listener's reader has a goroutine, a receive buffer of 64 MiB and a bounded
// queue, and waits for nothing that comes after the queue. Records rest in the
// receive buffer for 5 ms after a batch, on a busy host for up to 50 ms, so that
// many cost one wakeup; that is what a SIGKILL of the daemon can lose of them.
// When the queue is full, because a disk hangs, they rest there, too. Only when that is three quarters full too does the reader take
// records out and drop them, counted by cause with the time of the first and
// the last. So the kernel's own backlog never fills because of us, and an
// audited program never sleeps in audit_log_start for a slow disk: the host
// goes on at its own speed and the loss has a name and a number.
//
// Locks: Queue.mu, lossBook.mu, serials.mu and the socket's are leaves, which Listener.mu may be held over; Conn.mu is held over
// a whole request and may not be taken with any of them held.
package kernel
