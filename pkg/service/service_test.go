package service

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/auditfleet/auditfleet/internal/need"
)

// manager is a service manager's socket, which the environment names.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv(socketVar, path)
	return conn
}

// next returns the next message to a manager.
func next(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestManagerIsTold(t *testing.T) {
	conn := manager(t)
	m, err := Find()
	if err != nil || m.Watched() != 0 {
		t.Fatal(m.Watched(), err)
	}
	if _, there := os.LookupEnv(socketVar); there {
		t.Error("a plugin could speak for the daemon: " + socketVar + " is inherited")
	}
	stop := m.Starting("opening")
	for _, want := range []string{"STATUS=opening", "EXTEND_TIMEOUT_USEC=60000000"} {
		if got := next(t, conn); got != want {
			t.Errorf("told %q, not %q", got, want)
		}
	}
	stop()
	m.Ready("works")
	m.Reloading()
	m.Reloaded(errors.New("line 1\nREADY=0"))
	m.Reloaded(nil)
	m.Stopping()
	for _, want := range []string{"READY=1\nSTATUS=works", "RELOADING=1\nMONOTONIC_USEC=",
		"READY=1\nSTATUS=works; the configuration was not read again: line 1; READY=0", "READY=1\nSTATUS=works", "STOPPING=1"} {
		if got := next(t, conn); !strings.HasPrefix(got, want) || want != got && !strings.HasSuffix(want, "=") {
			t.Errorf("told %q, not %q", got, want)
		}
	}
}

// systemd passes over a message that is too long, has a zero byte, or a status that is no UTF-8: the READY=1 after
// a reload must come through whatever the file that was refused has in it.
func TestReloadedWhateverTheFileHas(t *testing.T) {
	conn := manager(t)
	m, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range []string{strings.Repeat("é", 5000), strings.Repeat("\xff", 3000), "a\x00b\tc\x7f", strings.Repeat("\n", 4000)} {
		m.Reloaded(errors.New(problem))
		got := next(t, conn)
		status, ok := strings.CutPrefix(got, "READY=1\nSTATUS=")
		if !ok || len(got) > 2048 || !utf8.ValidString(got) || strings.ContainsAny(status, "\x00\n\t\x7f") {
			t.Errorf("%.20q: told %d bytes: %.60q", problem, len(got), got)
		}
	}
}

// The watchdog hears of a loop for as long as it turns, and of one that hangs no more.
func TestWatchdogFollowsTheLoop(t *testing.T) {
	t.Setenv(timeoutVar, strconv.Itoa(int((40 * time.Millisecond).Microseconds())))
	t.Setenv(pidVar, strconv.Itoa(os.Getpid()))
	conn := manager(t)
	m, err := Find()
	if err != nil || m.Watched() != 40*time.Millisecond {
		t.Fatal(m.Watched(), err)
	}
	var looks, turns, hangs atomic.Uint64
	stop := m.Watch(func() uint64 {
		looks.Add(1)
		if hangs.Load() == 0 {
			turns.Add(1)
		}
		return turns.Load()
	})
	for range 3 {
		if got := next(t, conn); got != "WATCHDOG=1" {
			t.Errorf("told %q", got)
		}
	}
	hangs.Store(1)
	since := looks.Load() + 3
	need.Wait(t, "some looks at a loop that hangs", func() bool { return looks.Load() > since })
	stop()
	stop()
	buf, told := make([]byte, 64), uint64(0)
	for conn.SetReadDeadline(time.Now().Add(time.Millisecond)) == nil {
		if _, err := conn.Read(buf); err != nil {
			break
		}
		told++
	}
	if told > turns.Load() {
		t.Errorf("%d words to the watchdog of %d turns", told, turns.Load())
	}
}

func TestFindWithoutOne(t *testing.T) {
	t.Setenv(socketVar, "")
	t.Setenv(timeoutVar, "1000000")
	m, err := Find()
	if err != nil || m.Watched() != 0 {
		t.Errorf("a watchdog of %v without a socket, %v", m.Watched(), err)
	}
	m.Ready("x")
	m.Starting("x")()
	m = nil
	m.Ready("x")
	m.Reloading()
	m.Reloaded(errors.New("x"))
	m.Stopping()
	m.Starting("x")()
	m.Watch(func() uint64 { return 0 })()

	manager(t)
	t.Setenv(timeoutVar, "soon")
	if m, err := Find(); err == nil || m.Watched() != 0 {
		t.Errorf("a time of %v, %v", m.Watched(), err)
	}
	manager(t)
	t.Setenv(timeoutVar, "1000000")
	t.Setenv(pidVar, strconv.Itoa(os.Getpid()+1))
	if m, err := Find(); err != nil || m.Watched() != 0 {
		t.Errorf("another process's watchdog: %v, %v", m.Watched(), err)
	}
}

func TestJournal(t *testing.T) {
	var out strings.Builder
	w := Journal(&out)
	for _, c := range [][2]string{
		{"2026-11-29T23:00:00.000Z [INFO]  collector: ready\n", "<6>[INFO]  collector: ready\n"},
		{"2026-11-29T23:00:00.000Z [ERROR] x: a\n  | b\n", "<3>[ERROR] x: a\n<3>  | b\n"},
		{"2026-11-29T23:00:00.000Z [WARN]  x\n2026-11-29T23:00:00.000Z [DEBUG] y\n", "<4>[WARN]  x\n<7>[DEBUG] y\n"},
		{`{"@level":"warn","@message":"m"}` + "\n", `<4>{"@level":"warn","@message":"m"}` + "\n"},
		{"collector: no\n", "<3>collector: no\n"},
		{"<7> is what a peer wrote\n", "<3><7> is what a peer wrote\n"},
	} {
		out.Reset()
		if n, err := w.Write([]byte(c[0])); n != len(c[0]) || err != nil {
			t.Error(n, err)
		}
		if out.String() != c[1] {
			t.Errorf("%q became %q, not %q", c[0], out.String(), c[1])
		}
	}
}

func TestIsJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	t.Setenv(journalVar, "")
	if IsJournal(f) || IsJournal(nil) {
		t.Error("the journal without a variable")
	}
	t.Setenv(journalVar, stream(f))
	if !IsJournal(f) {
		t.Error("the stream that the variable names is not known")
	}
	if IsJournal(os.Stdin) {
		t.Error("another file is taken for the stream")
	}
}
