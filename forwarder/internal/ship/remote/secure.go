package remote

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/sockets"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// stockRead is how many bytes a stock server reads at once.
const stockRead = 8970

// lastWords is how long a server may take what was written last when the connection ends
// in good order.
const lastWords = time.Second

// Secure returns a connection that can be waited for like one of TCP: over TLS, a write that
// ran into its deadline could not be made again, for a part of a TLS record may have gone
// out. Here two goroutines copy between secured and a pair of sockets, of which the caller
// has the other end. What the pair holds (some hundred KiB) counts as taken by the peer. An error of
// secured is what the caller's next read returns, as explain words it.
//
// secured is the returned connection's, and closed with it; name is what its server has proved.
func Secure(secured net.Conn, name string, explain func(error) error) (net.Conn, error) {
	fds, err := sockets.Pair()
	if err != nil {
		return nil, err
	}
	outer, err := sockets.Conn(fds[0])
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, err
	}
	inner, err := sockets.Conn(fds[1])
	if err != nil {
		return nil, errors.Join(err, outer.Close())
	}
	s := &securedConn{Conn: outer, inner: inner, secured: secured, name: name, explain: explain, heard: make(chan struct{})}
	s.copying.Go(func() {
		err := copyMessages(secured, inner)
		if err != nil {
			s.hear()
		}
		s.end(secured, err)
	})
	s.copying.Go(func() {
		defer close(s.heard)
		_, err := io.CopyBuffer(struct{ io.Writer }{inner}, struct{ io.Reader }{secured}, make([]byte, readSize))
		s.end(inner, err)
	})
	return s, nil
}

// securedConn is the caller's end.
type securedConn struct {
	net.Conn // of the pair
	inner    net.Conn
	secured  net.Conn
	name     string
	explain  func(error) error
	copying  sync.WaitGroup
	heard    chan struct{} // closed when no more is read of the server
	once     sync.Once

	mu  sync.Mutex
	err error // guarded by mu: what ended one of the copies, nil for an end in good order
}

// copyMessages copies until from ends. Each write has whole messages, and no more of them than
// a stock server reads at once: with TLS, auditd 4.2.2 waits for the network when what it has
// read ends within a message, though the rest lies in its TLS buffer.
func copyMessages(to io.Writer, from io.Reader) error {
	var dec remote.Decoder
	buf := make([]byte, 0, 2*readSize)
	for {
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, cap(buf)) // a message is at most remote.MaxLength long
		}
		n, err := from.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		for at, whole := 0, 0; ; {
			_, n, bad := dec.Decode(buf[whole:])
			if bad != nil { // not by us; the server will say so
				n = len(buf) - whole
			}
			if at < whole && (n == 0 || whole+n-at > stockRead) {
				if _, err := to.Write(buf[at:whole]); err != nil {
					return err
				}
				at = whole
			}
			if whole += n; n == 0 {
				buf = append(buf[:0], buf[at:]...)
				break
			}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err != nil {
			if len(buf) > 0 { // of a message that was begun and not ended
				_, err = to.Write(buf)
			} else {
				err = nil
			}
			return err
		}
	}
}

// hear waits a moment for what the server has said before it took no more. In TLS 1.3 it
// checks a client after the client's own handshake is over: who is refused and writes meets a
// broken pipe, and why lies there to be read.
func (s *securedConn) hear() {
	_ = s.secured.SetReadDeadline(time.Now().Add(lastWords))
	moment := time.NewTimer(lastWords)
	defer moment.Stop()
	select {
	case <-s.heard:
	case <-moment.C: // who has this connection takes nothing of it
	}
}

// end says how a direction ended, and ends both when something has failed.
func (s *securedConn) end(to net.Conn, err error) {
	if err != nil {
		s.mu.Lock()
		if s.err == nil || errors.Is(s.err, os.ErrDeadlineExceeded) {
			s.err = err
		}
		s.mu.Unlock()
		_ = s.inner.Close()
		return
	}
	if w, ok := to.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
}

// Read returns what TLS said once the connection is over.
func (s *securedConn) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	return n, s.why(err)
}

// Write returns it, too: that the pair is closed says nothing.
func (s *securedConn) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	return n, s.why(err)
}

// why returns what ended the connection in the place of what the pair says of it.
func (s *securedConn) why(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		err = s.explain(s.err)
	}
	return err
}

// Abandon has Close wait for nothing.
func (s *securedConn) Abandon() {
	if u, ok := s.secured.(interface{ NetConn() net.Conn }); ok {
		abandon(u.NetConn())
	}
	_ = s.secured.SetDeadline(time.Unix(1, 0))
}

// Close joins; the server has a moment to take what was written.
func (s *securedConn) Close() error {
	s.once.Do(func() {
		_ = s.Conn.Close()
		timer := time.AfterFunc(lastWords, func() { _ = s.secured.SetDeadline(time.Unix(1, 0)) })
		defer timer.Stop()
		_ = s.secured.SetReadDeadline(time.Unix(1, 0)) // nobody hears what it says now
		s.copying.Wait()
		_ = s.inner.Close()
		_ = s.secured.Close()
	})
	return nil
}

// abandon has Close wait for nothing, and drop what the peer has not taken.
func abandon(c net.Conn) {
	switch c := c.(type) {
	case interface{ Abandon() }:
		c.Abandon()
	case *net.TCPConn:
		_ = c.SetLinger(0)
	}
}
