package dispatch

import (
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/conf"
)

func TestBuiltinUnixSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := dir + "/events"
	// A socket a killed daemon left. Nothing may fork meanwhile: a child between fork and exec listens on it, too, and a
	// client would wait there.
	syscall.ForkLock.RLock()
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		left.SetUnlinkOnClose(false)
		left.Close()
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	p := conf.Plugin{Name: "af", Active: true, Path: "builtin_af_unix", Type: conf.PluginBuiltin, Format: conf.FormatString, Args: []string{"0660", path}}
	d, _ := start(t, Config{Settings: Settings{Depth: 300}, StopTimeout: time.Second, Plugins: []conf.Plugin{p}})
	dial := func() net.Conn {
		var conn net.Conn
		wait(t, "it listens", func() (ok bool) { conn, err = net.Dial("unix", path); return err == nil })
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	put(d, 0, 5) // nobody listens: nothing is lost
	one, two, stuck := dial(), dial(), dial()
	wait(t, "three clients", func() bool { return d.Stats()[0].Clients == 3 })
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	const n = 10000
	whole := lines(0, n)
	got := make(chan string, 2)
	var read [2]atomic.Int64
	for i, conn := range []net.Conn{one, two} {
		go func() {
			b := make([]byte, len(whole))
			for at := 0; at < len(b); at = int(read[i].Load()) {
				m, err := conn.Read(b[at:])
				if err != nil {
					break
				}
				read[i].Add(int64(m))
			}
			got <- string(b[:read[i].Load()])
		}()
	}
	for i := 0; i < n; i += 100 {
		put(d, i, 100)
		far := int64(len(lines(0, i)))
		wait(t, "both read", func() bool { return read[0].Load() >= far && read[1].Load() >= far })
	}
	for range 2 {
		if g := <-got; g != whole {
			t.Errorf("a client got %d bytes of %d", len(g), len(whole))
		}
	}
	if st := d.Stats()[0]; st.Dropped == 0 || st.Delivered < 2*n {
		t.Errorf("%+v: nothing dropped for the client that does not read", st)
	}
	two.Close()
	wait(t, "one client less", func() bool { return d.Stats()[0].Clients == 2 })
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	stuck.Close()
}

// A client that ends its own side still reads; that it goes altogether is seen
// without a record for it, from either state.
func TestBuiltinUnixHalfClosed(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/events"
	p := conf.Plugin{Name: "af", Active: true, Path: "builtin_af_unix", Type: conf.PluginBuiltin, Format: conf.FormatString, Args: []string{"0600", path}}
	d, _ := start(t, Config{Settings: Settings{Depth: 300}, StopTimeout: time.Second, Plugins: []conf.Plugin{p}})
	dial := func() *net.UnixConn {
		var conn *net.UnixConn
		wait(t, "it listens", func() (ok bool) {
			var err error
			conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
			return err == nil
		})
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	half, whole := dial(), dial()
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	wait(t, "two clients", func() bool { return d.Stats()[0].Clients == 2 })
	whole.Close()
	wait(t, "the one that went is gone", func() bool { return d.Stats()[0].Clients == 1 })
	for i := range 3 { // it is served for good, not only until the end is seen
		put(d, i*100, 100)
		want := lines(i*100, 100)
		b := make([]byte, len(want))
		if _, err := io.ReadFull(half, b); err != nil || string(b) != want {
			t.Fatalf("batch %d: %v, %d bytes", i, err, len(b))
		}
	}
	half.Close()
	wait(t, "the other one, too", func() bool { return d.Stats()[0].Clients == 0 })
	last := dial()
	if err := last.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	wait(t, "another client", func() bool { return d.Stats()[0].Clients == 1 })
	if err := d.Close(); err != nil { // waits for no tick
		t.Fatal(err)
	}
}

func TestBuiltinSyslog(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/log"
	p := conf.Plugin{Name: "s", Active: true, Path: "builtin_syslog", Type: conf.PluginBuiltin, Args: []string{"LOG_NOTICE", "LOG_LOCAL3"}}
	d, said := start(t, Config{SyslogPath: path, StopTimeout: time.Second, Plugins: []conf.Plugin{p}})
	put(d, 0, 3)
	wait(t, "it says that there is no syslog", func() bool { return strings.Contains(said.String(), "syslog does not take records") })
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 9000)
	for i := range 3 {
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(buf[:n]); !strings.HasPrefix(got, "<157>") || !strings.HasSuffix(got, " audispd: "+line(i)) {
			t.Errorf("%q", got)
		}
	}
	if st := d.Stats()[0]; st.Dropped != 0 {
		t.Errorf("%+v", st)
	}
}

// short is a listener that has no descriptor left at first.
type short struct {
	net.Listener
	fails int
}

func (l *short) Accept() (net.Conn, error) {
	if l.fails > 0 {
		l.fails--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// A shortage that passes ends nothing: nobody would listen again until a restart.
func TestBuiltinUnixShortOfDescriptors(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/events"
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	p := &plugin{conf: conf.Plugin{Name: "af", Args: []string{path}}, logger: hclog.NewNullLogger(), now: time.Now}
	s, err := newUnixSink(p, bound{depth: 10, slack: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s.ln = ln
	go func() {
		defer close(s.done)
		s.accept(&short{ln, 3})
	}()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wait(t, "the client is taken", func() bool {
		var st Stats
		s.fill(&st)
		return st.Clients == 1
	})
	s.stop(time.Now())
}
