package secure

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/collector/internal/ingest/remote"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/poll"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/internal/testca"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// accepted stands in for listen.Conn.
type accepted struct {
	sock  *poll.Conn
	peer  netip.AddrPort
	cause atomic.Pointer[string]
}

func (c *accepted) Sock() *poll.Conn     { return c.sock }
func (c *accepted) Peer() netip.AddrPort { return c.peer }
func (c *accepted) Received(_, _ bool)   {}
func (c *accepted) Busy(bool)            {}
func (c *accepted) Shut(cause string) {
	c.cause.CompareAndSwap(nil, &cause)
	_ = c.sock.Shutdown()
}

func (c *accepted) Cause() string {
	if p := c.cause.Load(); p != nil {
		return *p
	}
	return ""
}

// echoes answers every byte with itself, as long as the peer sends, and then says "bye".
type echoes struct {
	from chan journal.Sender
}

func (e *echoes) Serve(c remote.Conn, from journal.Sender) {
	e.from <- from
	conn, err := dup(c.Sock())
	if err != nil {
		panic(err) // a test's
	}
	defer conn.Close()
	if _, err := io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn}); err == nil {
		_, _ = conn.Write([]byte("bye"))
	}
	c.Shut("done")
}

type rig struct {
	t       *testing.T
	ln      *net.TCPListener
	s       *Server
	echoes  *echoes
	wg      sync.WaitGroup
	mu      sync.Mutex
	reasons []string
	begun   []pki.Session
	cut     chan func(error)
	log     need.Buffer
	last    atomic.Pointer[accepted]
}

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, echoes: &echoes{from: make(chan journal.Sender, 100)}, cut: make(chan func(error), 1)}
	cert := certificate(t)
	cfg := Config{
		Sessions: r.echoes, Log: hclog.New(&hclog.LoggerOptions{Output: &r.log}), Reason: func(error) string { return "bad" },
		Handshake: func(c net.Conn) (net.Conn, *Peer, error) {
			s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
			if err := s.Handshake(); err != nil {
				return nil, nil, err
			}
			hold := func(cut func(error)) (func(), error) { r.cut <- cut; return func() { <-r.cut }, nil }
			return s, &Peer{Name: "web1", Transport: event.TransportTLS, Session: pki.Session{Cipher: "c"}, Hold: hold}, nil
		},
		Refused: func(_ remote.Conn, _, reason string) {
			r.mu.Lock()
			r.reasons = append(r.reasons, reason)
			r.mu.Unlock()
		},
		Begun: func(_ remote.Conn, p *Peer) { r.mu.Lock(); r.begun = append(r.begun, p.Session); r.mu.Unlock() },
		Ended: func(remote.Conn) {}, Free: func() int { return 1 << 20 },
	}
	if change != nil {
		change(&cfg)
	}
	r.s = New(cfg)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.ln = ln.(*net.TCPListener)
	r.wg.Go(func() {
		for {
			tcp, err := r.ln.AcceptTCP()
			if err != nil {
				return
			}
			sock, err := poll.Detach(tcp)
			if err != nil {
				t.Error(err)
				return
			}
			c := &accepted{sock: sock, peer: netip.MustParseAddrPort("192.0.2.1:1")}
			r.last.Store(c)
			r.wg.Go(func() {
				r.s.Serve(c)
				c.Shut("peer")
				_ = c.sock.Close()
			})
		}
	})
	t.Cleanup(func() { ln.Close(); r.wg.Wait() })
	return r
}

func (r *rig) dial() net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.ln.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

func (r *rig) dialTLS() *tls.Conn {
	r.t.Helper()
	c := tls.Client(r.dial(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a test's own server
	if err := c.Handshake(); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) refusals() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.reasons)
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(testca.New(t, t.TempDir()).Issue(t.TempDir(), nil, "hub"))
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// What is sent comes to the session byte for byte, what it answers goes back, and its last
// words arrive before the end.
func TestBytesPass(t *testing.T) {
	r := newRig(t, nil)
	c := r.dialTLS()
	sent := make([]byte, 1<<20)
	_, _ = rand.Read(sent)
	got := make(chan []byte, 1)
	r.wg.Go(func() {
		b, err := io.ReadAll(c)
		if err != nil {
			t.Error(err)
		}
		got <- b
	})
	if _, err := c.Write(sent); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b := <-got; !bytes.Equal(b, append(slices.Clone(sent), "bye"...)) {
		t.Errorf("%d bytes came back of %d and 3", len(b), len(sent))
	}
	if from := <-r.echoes.from; from.Verified != "web1" || from.Transport != event.TransportTLS || from.Addr.Port() != 1 {
		t.Errorf("sent by %+v", from)
	}
	last := r.last.Load()
	need.Wait(t, "the cause", func() bool { return last.Cause() == "done" })
	if len(r.refusals()) > 0 {
		t.Errorf("refused: %q", r.refusals())
	}
}

// A peer that is no longer allowed is cut off; one that goes away in the middle, and one
// that takes nothing, cost nothing that lasts.
func TestPeersThatEnd(t *testing.T) {
	r := newRig(t, nil)
	c := r.dialTLS()
	_, _ = c.Write([]byte("x"))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cut := <-r.cut
	cut(errors.New("revoked in a test"))
	r.cut <- cut // for release
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("it was not cut off")
	}
	if got := r.refusals(); !slices.Equal(got, []string{"bad"}) {
		t.Errorf("counted: %q", got)
	}
	last := r.last.Load()
	need.Wait(t, "the cause", func() bool { return last.Cause() == "revoked" })

	gone := r.dialTLS()
	_, _ = gone.Write([]byte("y"))
	_ = gone.NetConn().(*net.TCPConn).SetLinger(0)
	_ = gone.NetConn().Close()

	greedy := r.dialTLS() // sends, and takes nothing of what comes back
	_ = greedy.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	for range 1000 {
		if _, err := greedy.Write(make([]byte, 64<<10)); err != nil {
			break
		}
	}
	_ = greedy.NetConn().Close()
}

// A handshake has a time, whatever comes or does not, and of too many the oldest goes.
func TestHandshakesAreBounded(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Timeout = 300 * time.Millisecond })
	silent := r.dial()
	slow := r.dial()
	_, _ = slow.Write([]byte{22, 3, 1})
	for _, c := range []net.Conn{silent, slow} {
		if b, err := io.ReadAll(c); len(b) > 0 {
			t.Errorf("%q, %v", b, err)
		}
	}
	need.Wait(t, "both refused", func() bool { return slices.Equal(r.refusals(), []string{"timeout", "timeout"}) })

	for _, change := range []func(*Config){func(c *Config) { c.MaxHandshakes = 3 }, func(c *Config) { c.MaxPerAddr = 3 }} {
		oldestGoes(t, newRig(t, change))
	}
}

// oldestGoes begins one handshake more than the three that a rig has room for.
func oldestGoes(t *testing.T, r *rig) {
	t.Helper()
	var waiting []net.Conn
	for i := range 4 {
		waiting = append(waiting, r.dial())
		need.Wait(t, "the handshake", func() bool { return r.s.shaking.Len() == min(i+1, 3) })
	}
	if _, err := waiting[0].Read(make([]byte, 1)); err == nil {
		t.Error("the oldest is still there")
	}
	need.Wait(t, "the oldest refused", func() bool { return slices.Equal(r.refusals(), []string{"crowded"}) })
	c := r.dialTLS() // ends the next oldest, and is served
	_, _ = c.Write([]byte("z"))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	for _, c := range waiting {
		_ = c.Close()
	}
}
