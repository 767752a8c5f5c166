// Package kernel speaks NETLINK_AUDIT with the kernel: a Listener that takes in
// audit records as the registered audit daemon or from the multicast group, and
// a Conn for settings and rules. forwarder/internal/agent, cli and trace may
// import it.
//
// # What the reader promises
//
// The Listener's reader owns an OS thread, a receive buffer of 64 MiB and a
// bounded queue, and waits for nothing that comes after the queue. When the
// queue is full, because a disk hangs, records rest in the socket's receive
// buffer first. Only when that is three quarters full too does the reader take
// records out and drop them, counted by cause with the time of the first and
// the last. So the kernel's own backlog never fills because of us, and an
// audited program never sleeps in audit_log_start for a slow disk: the host
// goes on at its own speed and the loss has a name and a number.
//
// Locks: Queue.mu and lossBook.mu are leaves; Conn.mu is held over a whole
// request and may not be taken with either of them held.
package kernel
