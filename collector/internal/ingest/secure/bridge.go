package secure

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/ingest/remote"
	"github.com/auditfleet/auditfleet/collector/internal/poll"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/sockets"
)

// copySize is what is copied at once: half of the longest TLS record, and thousands of
// connections have two of them.
const copySize = 8 << 10

// lastWords is how long the peer may take what was written for it when a session has
// ended.
const lastWords = time.Second

// bridge is a connection as the sessions have it: its socket has the plain bytes of the
// TLS connection. All else is the accepted connection's.
type bridge struct {
	remote.Conn
	plain   *poll.Conn // the sessions' end of the pair
	inner   net.Conn   // ours
	secured net.Conn
	copying sync.WaitGroup
	said    chan struct{} // closed when down has said goodbye

	mu    sync.Mutex
	cause string // guarded by mu: why the session ended
}

// newBridge starts to copy.
func newBridge(c remote.Conn, secured net.Conn) (*bridge, error) {
	plain, inner, err := pair()
	if err != nil {
		return nil, err
	}
	b := &bridge{Conn: c, plain: plain, inner: inner, secured: secured, said: make(chan struct{})}
	b.copying.Go(b.up)
	b.copying.Go(b.down)
	return b, nil
}

// up copies what the peer sends. Its end is the end of the session's input; what is
// answered until then still goes out.
func (b *bridge) up() {
	_, _ = io.CopyBuffer(struct{ io.Writer }{b.inner}, struct{ io.Reader }{b.secured}, make([]byte, copySize))
	if w, ok := b.inner.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
}

// down copies what the session answers, and says goodbye when that has ended.
func (b *bridge) down() {
	defer close(b.said)
	_, err := io.CopyBuffer(struct{ io.Writer }{b.secured}, struct{ io.Reader }{b.inner}, make([]byte, copySize))
	if err != nil {
		_ = b.plain.Shutdown() // it takes nothing any more
		return
	}
	if w, ok := b.secured.(interface{ CloseWrite() error }); ok {
		_ = b.secured.SetWriteDeadline(time.Now().Add(lastWords))
		_ = w.CloseWrite()
	}
}

// Sock implements remote.Conn.
func (b *bridge) Sock() *poll.Conn { return b.plain }

// Shut implements remote.Conn. It wakes the session; the peer still gets what was written
// before, so the accepted connection ends in close.
func (b *bridge) Shut(cause string) {
	b.mu.Lock()
	if b.cause == "" {
		b.cause = cause
	}
	b.mu.Unlock()
	_ = b.plain.Shutdown()
}

// Cause implements remote.Conn.
func (b *bridge) Cause() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cause != "" {
		return b.cause
	}
	return b.Conn.Cause()
}

// cut ends the connection at once, for a peer that is no longer allowed.
func (b *bridge) cut() { b.Conn.Shut(metrics.ClosedRevoked) }

// close ends both ends and joins. What the session wrote last has some time to be taken.
func (b *bridge) close() {
	_ = b.plain.Shutdown()
	_ = b.secured.SetWriteDeadline(time.Now().Add(lastWords))
	<-b.said
	_ = b.secured.SetReadDeadline(time.Unix(1, 0))
	b.copying.Wait()
	if cause := b.Cause(); cause != "" {
		b.Conn.Shut(cause)
	}
	_ = b.inner.Close()
	_ = b.plain.Close()
	_ = b.secured.Close()
}

// pair is a pair of sockets, one for a poller and one for goroutines.
func pair() (*poll.Conn, net.Conn, error) {
	fds, err := sockets.Pair()
	if err != nil {
		return nil, nil, err
	}
	plain, err := poll.Own(fds[0])
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, nil, err
	}
	inner, err := sockets.Conn(fds[1])
	if err != nil {
		_ = plain.Close()
		return nil, nil, err
	}
	return plain, inner, nil
}

// dup is the connection once more, for goroutines that wait.
func dup(c *poll.Conn) (net.Conn, error) {
	fd := -1
	var failed error
	err := c.Control(func(old uintptr) { fd, failed = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	return sockets.Conn(fd)
}
