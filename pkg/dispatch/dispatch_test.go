package dispatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/conf"
)

func TestRecordsInOrderAndCleanEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// A Close that waited for the timeout would outlast the test.
	d, _ := start(t, Config{StopTimeout: time.Hour, Plugins: []conf.Plugin{fake(t, "a", "cat", dir+"/a"), fake(t, "b", "cat", dir+"/b"), {Name: "off"}}})
	if !d.Active() {
		t.Error("not active")
	}
	put(d, 0, 1500)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/a", "/b"} {
		if diff := cmp.Diff(lines(0, 1500), content(dir+name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if got := content(dir + name + ".started"); got != "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n" {
			t.Errorf("%s: environment %q", name, got)
		}
		if got := content(dir + name + ".signals"); got != "" {
			t.Errorf("%s was signalled though it ended by itself: %q", name, got)
		}
	}
	put(d, 0, 1) // after Close: nothing happens
}

// FORMAT.md's examples.
func TestBinaryFormat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := fake(t, "a", "cat", dir+"/a")
	p.Format = conf.FormatBinary
	d, _ := start(t, Config{Plugins: []conf.Plugin{p}})
	b := NewBatch(0, 0)
	b.Add(1320, []byte("type=EOE msg=audit(1.000:1): "))
	long := "type=SYSCALL " + strings.Repeat("x", 9000)
	b.Add(1300, []byte(long))
	for range 40 {
		b.Add(1327, []byte("type=PROCTITLE"))
	}
	d.Put(b)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	got := content(dir + "/a")
	if len(got) != 42*8986 {
		t.Fatalf("%d bytes, want 42 records of 8986", len(got))
	}
	want := []byte{1, 0, 0, 0, 16, 0, 0, 0, 0x28, 5, 0, 0, 0x1d, 0, 0, 0, 't', 'y', 'p', 'e'}
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 && got[:20] != string(want) {
		t.Errorf("% x", got[:20])
	}
	if strings.Trim(got[16+29:8986], "\x00") != "" {
		t.Error("the padding is not zero")
	}
	if second := got[8986 : 2*8986]; second[16:] != long[:8970] || binary.NativeEndian.Uint32([]byte(second[12:16])) != 8970 {
		t.Error("a record too long is not cut to the format's size")
	}
}

// A plugin that reads nothing and one that is fast: the fast one gets all, Put
// never waits, and what is dropped is counted and said.
func TestStuckPluginDelaysNobody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var escalated []string
	d, said := start(t, Config{
		Settings: Settings{Depth: 500, Overflow: conf.DoHalt}, StopTimeout: time.Second,
		Escalate: func(do conf.Do, why string) { escalated = append(escalated, string(do)+": "+why) },
		Plugins:  []conf.Plugin{fake(t, "fast", "cat", dir+"/fast"), fake(t, "stuck", "hang")},
	})
	const n = 20000
	for i := 0; i < n; i += 100 {
		put(d, i, 100) // one that waited for the stuck plugin would not return
		wait(t, "the fast plugin keeps up", func() bool { return d.Stats()[0].Queued < 200 })
	}
	st := d.Stats()
	if st[0].Dropped != 0 || st[1].Dropped == 0 || st[1].Queued != 500 || st[1].MostQueue != 500 {
		t.Errorf("%+v", st)
	}
	if got := st[1].Delivered + st[1].Dropped + uint64(st[1].Queued); got != n {
		t.Errorf("of %d records %d are accounted for: %+v", n, got, st[1])
	}
	if diff := cmp.Diff([]string{"halt: the queue for plugin stuck is full"}, escalated); diff != "" {
		t.Errorf("escalated: %s", diff)
	}
	if c := strings.Count(said.String(), "records dropped for it"); c != 1 {
		t.Errorf("said %d times within a minute", c)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if content(dir+"/fast") != lines(0, n) {
		t.Error("the fast plugin has not all records")
	}
	for _, want := range []string{"did not end and is killed", "plugin=stuck records="} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("nothing says %q", want)
		}
	}
}

// A plugin that dies after some bytes is started again, and what it had not read
// is read by the next, from a record's beginning on: only the record it died in
// is lost.
func TestRestartGoesOnWhereTheDeadOneStopped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bite := 3*len(line(0)+"\n") + 40
	d, said := start(t, Config{Settings: Settings{MaxRestarts: 5}, Plugins: []conf.Plugin{fake(t, "b", "bites", dir+"/out", fmt.Sprint(bite))}})
	put(d, 0, 10)
	var want strings.Builder
	for from := range 2 {
		want.WriteString((lines(4*from, 4))[:bite])
	}
	want.WriteString(lines(8, 2))
	wait(t, "two restarts and all records", func() bool { return len(content(dir+"/out")) == want.Len() })
	if diff := cmp.Diff(want.String(), content(dir+"/out")); diff != "" {
		t.Error(diff)
	}
	if st := d.Stats()[0]; st.Restarts != 2 || st.Dropped != 0 || st.Failed {
		t.Errorf("%+v", st)
	}
	if !strings.Contains(said.String(), "exit status 7") || !strings.Contains(said.String(), "restart=2 max_restarts=5") {
		t.Errorf("it is not said why: %s", said.String())
	}
}

func TestCrashLoopEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, said := start(t, Config{Settings: Settings{MaxRestarts: 2}, Plugins: []conf.Plugin{fake(t, "ok", "cat", dir+"/ok"), fake(t, "x", "dies")}})
	put(d, 0, 5)
	wait(t, "it is given up", func() bool { return d.Stats()[1].Failed && strings.Contains(said.String(), "it died too often") })
	put(d, 5, 5)
	if st := d.Stats()[1]; st.Restarts != 2 || st.Queued != 0 || st.Dropped != 10 || st.PID != 0 {
		t.Errorf("%+v", st)
	}
	if !strings.Contains(said.String(), "plugin died too often") {
		t.Error("nothing says so")
	}
	d.Resume()
	wait(t, "it is tried and given up again", func() bool { st := d.Stats()[1]; return st.Failed && st.Restarts == 4 })
	wait(t, "the other one has all", func() bool { return content(dir+"/ok") == lines(0, 10) })
}

func TestSuspendAndResume(t *testing.T) {
	t.Parallel()
	d, said := start(t, Config{Settings: Settings{Depth: 10, Overflow: conf.DoSuspend}, StopTimeout: 300 * time.Millisecond, Plugins: []conf.Plugin{fake(t, "stuck", "hang")}})
	put(d, 0, 5000)
	wait(t, "it is suspended", func() bool { return d.Stats()[0].Suspended })
	was := d.Stats()[0].Dropped
	put(d, 0, 7)
	if got := d.Stats()[0].Dropped; got != was+7 {
		t.Errorf("%d dropped while suspended, want 7", got-was)
	}
	if n := strings.Count(said.String(), "no more records until resumed"); n != 1 {
		t.Errorf("said %d times", n)
	}
	d.Resume()
	if d.Stats()[0].Suspended {
		t.Error("still suspended")
	}
}

// A burst beyond q_depth is no loss while it is small in memory.
func TestSlack(t *testing.T) {
	t.Parallel()
	d, _ := start(t, Config{Settings: Settings{Depth: 10}, Slack: 2 * len(lines(0, 1000)), StopTimeout: 100 * time.Millisecond, Plugins: []conf.Plugin{fake(t, "stuck", "hang")}})
	put(d, 0, 1000)
	if st := d.Stats()[0]; st.Dropped != 0 {
		t.Errorf("%+v", st)
	}
	put(d, 0, 5000)
	if st := d.Stats()[0]; st.Dropped == 0 {
		t.Errorf("not bounded: %+v", st)
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	same, gone, changed := fake(t, "a-same", "cat", dir+"/same"), fake(t, "b-gone", "cat", dir+"/gone"), fake(t, "c-changed", "cat", dir+"/before")
	settings := Settings{Depth: 100, Overflow: conf.DoIgnore, MaxRestarts: 1}
	d, _ := start(t, Config{Settings: settings, Plugins: []conf.Plugin{same, gone, changed}})
	wait(t, "all run", func() bool {
		return content(dir+"/same.started") != "" && content(dir+"/gone.started") != "" && content(dir+"/before.started") != ""
	})
	put(d, 0, 5)
	changed.Args[2] = dir + "/after" // the dispatcher has a copy
	settings.Depth = 50
	if err := d.Reload(settings, []conf.Plugin{same, changed, fake(t, "d-new", "cat", dir+"/new")}); err != nil {
		t.Fatal(err)
	}
	put(d, 5, 5)
	if err := d.Reload(Settings{Overflow: "email"}, nil); !errors.Is(err, ErrAction) {
		t.Errorf("overflow_action = email: %v", err)
	}
	wait(t, "the one that stays was told", func() bool { return content(dir+"/same.signals") == "hangup\n" })
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"same": lines(0, 10), "gone": lines(0, 5), "before": lines(0, 5), "after": lines(5, 5), "new": lines(5, 5)} {
		if diff := cmp.Diff(want, content(dir+"/"+name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

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

// What can't be started is said; the others run.
func TestBadPlugins(t *testing.T) {
	t.Parallel()
	builtin := func(name, path string, args ...string) conf.Plugin {
		return conf.Plugin{Name: name, Active: true, Path: path, Type: conf.PluginBuiltin, Args: args}
	}
	dir := t.TempDir()
	inward := fake(t, "in", "cat", dir+"/in")
	inward.Direction = "in"
	missing := fake(t, "missing")
	missing.Path = dir + "/nothing"
	d, said := start(t, Config{Plugins: []conf.Plugin{
		builtin("b1", "builtin_mail"), builtin("b2", "builtin_af_unix", "0640"), builtin("b3", "builtin_af_unix", "0666", dir+"/s"),
		builtin("b4", "builtin_af_unix", "rw", dir+"/s"), builtin("b5", "builtin_syslog", "LOG_LOUD"), inward, missing, fake(t, "ok", "cat", dir+"/ok"),
	}})
	put(d, 0, 3)
	wait(t, "the good one", func() bool { return content(dir+"/ok") == lines(0, 3) })
	wait(t, "the missing one is given up", func() bool { return d.Stats()[0].Failed })
	if got := len(d.Stats()); got != 2 {
		t.Errorf("%d plugins run", got)
	}
	for _, want := range []string{`no builtin \"builtin_mail\"`, "path of the socket is missing", "everybody read", `\"rw\" is neither`, "LOG_LOUD", "direction = in is not supported", "nothing: no such file"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("nothing says %q", want)
		}
	}
	for _, s := range []Settings{{Overflow: "x"}, {}, {Overflow: conf.DoHalt}} {
		if _, err := Open(Config{Settings: s}); !errors.Is(err, ErrAction) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	d, _ := start(b, Config{Settings: Settings{Depth: 1 << 30}, Plugins: []conf.Plugin{{Name: "af", Active: true, Path: "af_unix", Type: conf.PluginBuiltin, Args: []string{b.TempDir() + "/s"}}}})
	text := []byte(line(1))
	b.ReportAllocs()
	for i := 0; i < b.N; i += 50 {
		batch := NewBatch(50*(len(text)+1), 50)
		for range 50 {
			batch.Add(1300, text)
		}
		d.Put(batch)
	}
}
