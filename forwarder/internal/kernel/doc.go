// Package kernel speaks NETLINK_AUDIT with the kernel: a Listener receives audit
// records, as the registered audit daemon or from the multicast group, and a Conn
// reads and changes settings and rules. forwarder/internal/agent, cli and trace may
// import it.
//
// # What the reader promises
//
// The Listener's reader has its own goroutine, a receive buffer of 64 MiB and a bounded
// queue, and never waits for the consumer of the queue. It leaves records in the receive
// buffer for 5 ms after a batch, on a busy host for up to 50 ms, so that many cost one
// wakeup; a SIGKILL of the daemon loses what lies there. When the queue is full, because
// a disk hangs, records stay in the receive buffer, too. Only when the receive buffer is
// three quarters full (of a multicast listener three eighths: beyond half of it the kernel
// yields after each message) does the reader take records out and drop them, counted by
// cause with the times of the first and the last. So the kernel's own backlog never fills
// because of this daemon, and an audited program never sleeps in audit_log_start for a
// slow disk: the host goes on at its own speed, and the loss is counted and reported.
// (FullWait is the policy for those who prefer that the kernel waits.)
//
// Locks: Queue.mu, lossBook.mu, serials.mu and the socket's are leaves; they may be
// taken while Listener.mu is held. Conn.mu is held for a whole request and must not be
// taken while any of them is held.
package kernel
