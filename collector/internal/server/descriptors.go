package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/listen"
)

// The process may have only so many files open (RLIMIT_NOFILE). What senders have of
// them, the journal does not: they are counted out at the start, and senders get what is
// left. Beside what is open then and the partitions that may be, there are days that begin, segments of the journal,
// queries, readers of the metrics and plugins that start again.
const (
	// keepLeast and keepMost bound what is kept for those; between them it is an
	// eighth of the limit.
	keepLeast = 64
	keepMost  = 1024
	// apiConns and httpConns are how many query and how many read metrics at a time:
	// what comes beyond waits. Both fit in what is kept.
	apiConns  = 24
	httpConns = 16
)

// bound lowers the limit of connections to what the limit of open files leaves, and says
// so.
func (s *Server) bound(l *listen.Limits) error {
	files, err := descriptors()
	if err != nil {
		return err
	}
	used, err := openFiles()
	if err != nil {
		return err
	}
	used += s.store.MayOpen() - s.listen.Len()
	kept := min(max(files/8, keepLeast), keepMost)
	most := files - used - kept
	if most < 1 {
		return fmt.Errorf("the limit of open files (RLIMIT_NOFILE) is %d: %d are open or may be and %d are kept for journal, store and queries; "+
			"raise it to %d at least (LimitNOFILE= in the unit, ulimit -n)", files, used, kept, used+kept+1)
	}
	asked := l.MaxConns
	if asked == 0 {
		asked = listen.DefaultMaxConns
	}
	l.MaxConns = min(asked, most)
	args := []any{"max_connections", l.MaxConns, "open_files_limit", files, "open_or_may_be", used, "kept_for_journal_store_and_queries", kept}
	if asked > most {
		s.cfg.Log.Warn("fewer connections than max_connections: the limit of open files leaves no more; raise it (LimitNOFILE= in the unit, "+
			"ulimit -n) or lower max_connections", append(args, "configured", asked)...)
		return nil
	}
	s.cfg.Log.Info("connections are bounded", args...)
	return nil
}

// descriptors is how many files the process may have open. Go raises the soft limit to
// the hard one when a program starts, and gives what it starts the old one back; it is
// raised here where that was not done.
func descriptors() (int, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	if r.Cur < r.Max {
		higher := unix.Rlimit{Cur: r.Max, Max: r.Max}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &higher) == nil {
			r = higher
		}
	}
	return int(min(r.Cur, 1<<30)), nil //nolint:gosec // bounded
}

// openFiles is how many files the process has open.
func openFiles() (int, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, fmt.Errorf("count the open files: %w", err)
	}
	return len(entries) - 1, nil // without the one that was read
}

// limited is a listener with so many connections open at a time.
type limited struct {
	net.Listener
	free   chan struct{}
	closed chan struct{}
	once   sync.Once
}

// limitOpen lets no more than n connections of ln be open. Others wait to be accepted.
func limitOpen(ln net.Listener, n int) net.Listener {
	return &limited{Listener: ln, free: make(chan struct{}, n), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &limitedConn{Conn: c, l: l}, nil
}

// Close implements net.Listener.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limitedConn makes room when it is closed.
type limitedConn struct {
	net.Conn
	l    *limited
	once sync.Once
}

// SyscallConn is that of the connection: callers of the query API are known by it.
func (c *limitedConn) SyscallConn() (syscall.RawConn, error) {
	inner, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return inner.SyscallConn()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	c.once.Do(func() { <-c.l.free })
	return c.Conn.Close()
}
