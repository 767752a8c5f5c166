package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxClients bounds how many programs may listen to the builtin af_unix at once.
const maxClients = 16

// unixSink is the builtin af_unix: a socket that gives the records to whoever connects. The
// stock one serves a single client; here each has a queue and a goroutine of its own, and
// gets what comes after it has connected.
type unixSink struct {
	p    *plugin
	path string
	mode os.FileMode
	done chan struct{}

	mu      sync.Mutex // guards everything below
	ln      net.Listener
	limit   bound // of a client's queue
	clients map[*unixClient]bool
	closed  bool           // stop was called: no client is taken any more
	serving sync.WaitGroup // of the clients' goroutines; added to with closed false only
}

// unixClient is a program that has connected.
type unixClient struct {
	conn net.Conn
	q    *queue
}

// newUnixSink reads the builtin's arguments: a mode and a path, in either order.
func newUnixSink(p *plugin, limit bound) (*unixSink, error) {
	s := &unixSink{p: p, mode: 0o640, limit: limit, done: make(chan struct{}), clients: map[*unixClient]bool{}}
	for _, arg := range p.conf.Args {
		switch {
		case filepath.IsAbs(arg):
			s.path = arg
		default:
			n, err := strconv.ParseUint(arg, 8, 32)
			if err != nil || n > 0o777 || n == 0 {
				return nil, fmt.Errorf("args: %q is neither an absolute path nor a mode such as 0640", arg)
			}
			s.mode = os.FileMode(n)
		}
	}
	if s.path == "" {
		return nil, errors.New("args: the path of the socket is missing")
	}
	if s.mode&0o002 != 0 {
		return nil, fmt.Errorf("args: mode %04o would let everybody read the audit records", s.mode)
	}
	return s, nil
}

// listen makes the socket, with its mode from the start, in place of one that is left there.
// A file that is no socket is not removed.
func (s *unixSink) listen() error {
	if info, err := os.Lstat(s.path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return fmt.Errorf("%s is there and no socket", s.path)
		}
		if err := os.Remove(s.path); err != nil {
			return fmt.Errorf("remove the old socket: %w", err)
		}
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if cerr := raw.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), uint32(s.mode)) }); cerr != nil {
			return cerr
		}
		return err
	}}
	ln, err := lc.Listen(context.Background(), "unix", s.path)
	if err != nil {
		return err
	}
	if err := os.Chmod(s.path, s.mode); err != nil {
		return errors.Join(err, ln.Close())
	}
	s.mu.Lock()
	s.ln = ln
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return ln.Close()
	}
	return nil
}

// run takes clients until stop closes the listener.
func (s *unixSink) run() {
	defer close(s.done)
	<-s.p.ready
	if err := s.listen(); err != nil {
		s.p.logger.Error("the builtin af_unix can't listen", "plugin", s.p.conf.Name, "error", err)
		return
	}
	s.mu.Lock()
	ln := s.ln
	s.mu.Unlock()
	s.accept(ln)
}

// acceptAgain is the pause after a connection that could not be taken, and the longest that stop waits for it.
const acceptAgain = 100 * time.Millisecond

// accept takes clients until the listener is closed. No other error ends it, such as having no descriptor left:
// nobody would listen again.
func (s *unixSink) accept(ln net.Listener) {
	failing := false
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			failing = false
			s.welcome(conn)
			continue
		case errors.Is(err, net.ErrClosed):
			return
		case !failing:
			failing = true
			s.p.logger.Error("the builtin af_unix could not take a connection, and goes on trying", "plugin", s.p.conf.Name, "error", err)
		}
		time.Sleep(acceptAgain)
	}
}

// welcome takes a client, or refuses it when there are too many.
func (s *unixSink) welcome(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.clients) >= maxClients {
		s.p.logger.Warn("a client of the builtin af_unix was refused", "plugin", s.p.conf.Name, "clients", len(s.clients), "limit", maxClients)
		_ = conn.Close() // nothing was sent
		return
	}
	c := &unixClient{conn: conn, q: newQueue(s.limit)}
	s.clients[c] = true
	s.serving.Go(func() { s.serve(c) })
}

// serve feeds one client until it goes or the sink is stopped.
func (s *unixSink) serve(c *unixClient) {
	gone, left := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		// What a client sends means nothing. Neither does the end of it, as long as the
		// client still reads: nc -N and socat end their side when their input ends.
		_, _ = io.Copy(io.Discard, c.conn) // the end is what is waited for
		tick := time.NewTicker(halfClosedEvery)
		defer tick.Stop()
		for halfClosed(c.conn) {
			select {
			case <-tick.C:
			case <-left:
				return
			}
		}
		_ = c.conn.SetWriteDeadline(time.Unix(1, 0))
	}()
	err := s.feed(c, gone)
	close(left)
	s.mu.Lock()
	delete(s.clients, c)
	s.mu.Unlock()
	c.q.close()
	s.p.lose(c.q.clear(), "the client has gone")
	if cerr := c.conn.Close(); cerr != nil && err == nil {
		err = cerr
	}
	<-gone
	if err != nil {
		s.p.logger.Info("a client of the builtin af_unix has gone", "plugin", s.p.conf.Name, "error", err)
	}
}

// halfClosedEvery is how often a client that has ended its side is polled: Go's runtime does
// not tell when such a one closes the connection altogether.
const halfClosedEvery = time.Second

// halfClosed reports whether a client that has ended its side still takes records.
func halfClosed(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	there := false
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		_, err := unix.Poll(fds, 0)
		there = err == nil && fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) == 0
	})
	return err == nil && there
}

// feed writes the queue's records to a client until the queue is closed and empty (nil), the
// client has gone (nil), or a write fails.
func (s *unixSink) feed(c *unixClient, gone <-chan struct{}) error {
	enc := encoder{format: s.p.conf.Format}
	for {
		head, closed := c.q.head()
		if head.b == nil {
			s.p.caughtUp()
			if closed {
				return nil
			}
			select {
			case <-c.q.changed:
				continue
			case <-gone:
				return nil
			}
		}
		out, records := enc.chunk(head)
		n, err := c.conn.Write(out)
		c.q.pop(records)
		if err != nil {
			whole := enc.count(out[:n])
			s.p.handed.Add(uint64(whole))
			s.p.lose(records-whole, "the client does not read")
			return err
		}
		s.p.handed.Add(uint64(records))
	}
}

func (s *unixSink) put(b *Batch) (dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		dropped += c.q.put(b)
	}
	return dropped
}

func (s *unixSink) hup()    {}
func (s *unixSink) revive() {}

func (s *unixSink) resize(depth int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit.depth = depth
	for c := range s.clients {
		c.q.resize(depth)
	}
}

func (s *unixSink) fill(st *Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Clients, st.Up = len(s.clients), s.ln != nil
	for c := range s.clients {
		n, most := c.q.len()
		st.Queued, st.MostQueue = max(st.Queued, n), max(st.MostQueue, most)
	}
}

// stop has each client get what is queued for it until the deadline, and joins.
func (s *unixSink) stop(deadline time.Time) {
	s.mu.Lock()
	s.closed = true
	ln := s.ln
	for c := range s.clients {
		_ = c.conn.SetWriteDeadline(deadline) // an error: it has gone
		c.q.close()
	}
	s.mu.Unlock()
	if ln != nil {
		// Closing removes the socket's file.
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.p.logger.Warn("the builtin af_unix's socket", "plugin", s.p.conf.Name, "error", err)
		}
	}
	<-s.done
	s.serving.Wait()
}
