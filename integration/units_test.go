package integration

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// inJournal starts a program whose standard error is, by its environment, the journal.
const inJournal = `JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) exec "$@"`

// aManager is a service manager's socket.
type aManager struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func newManager(t *testing.T) *aManager {
	t.Helper()
	m := &aManager{t: t, path: filepath.Join(t.TempDir(), "notify")}
	var err error
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.conn.Close() })
	return m
}

// start starts a program under the manager, with a watchdog.
func (m *aManager) start(args ...string) *harness.Proc {
	m.t.Helper()
	env := unitEnvironment(m.t, filepath.Base(args[0]))
	p, err := harness.Start(harness.Spec{
		Name: args[0], Args: append([]string{"sh", "-c", inJournal, "sh"}, args...),
		Env: append(env, "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=8000000"), // half of it, and more, is a turn's
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(p.Kill)
	return p
}

// unitEnvironment is what the program's unit sets.
func unitEnvironment(t *testing.T, program string) []string {
	t.Helper()
	unit, err := os.ReadFile("../deploy/auditfleet-" + program + ".service")
	if err != nil {
		t.Fatal(err)
	}
	var env []string
	for line := range strings.Lines(string(unit)) {
		if set, ok := strings.CutPrefix(line, "Environment="); ok {
			env = append(env, strings.TrimSpace(set))
		}
	}
	return env
}

// A program that systemd's watchdog aborts, or that crashes, must not end with the exit status
// after which its unit is not started again (2, of a wrong command line): Go's own is just that.
func TestAbortedIsStartedAgain(t *testing.T) {
	t.Parallel()
	dir, bins := t.TempDir(), binaries(t)
	for name, text := range map[string]string{"collector.conf": "listen = 127.0.0.1:0\nhttp =\n", "audit.log": "type=USER msg=audit(1.000:1): x=1\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{bins.Collector, "serve", "--config", dir + "/collector.conf", "--store", dir + "/store"},
		{bins.Forwarder, "--source", dir + "/audit.log", "--follow", "--report", dir + "/report", "--remote", "127.0.0.1:1", "--spool", dir + "/spool"},
	} {
		t.Run(filepath.Base(args[0]), func(t *testing.T) {
			t.Parallel()
			m := newManager(t)
			p := m.start(args...)
			m.hears(p, "READY=1")
			if err := p.Signal(syscall.SIGABRT); err != nil {
				t.Fatal(err)
			}
			var ended *exec.ExitError
			if err := p.Wait(time.Minute); !errors.As(err, &ended) || !ended.Sys().(syscall.WaitStatus).Signaled() {
				t.Errorf("%v, instead of by the signal:\n%s", err, p.Output())
			}
		})
	}
}

// hears waits for a message that has a part.
func (m *aManager) hears(p *harness.Proc, part string) string {
	m.t.Helper()
	buf := make([]byte, 4096)
	if err := m.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		m.t.Fatal(err)
	}
	for {
		n, err := m.conn.Read(buf)
		if err != nil {
			m.t.Fatalf("never told %q: %v\n%s", part, err, p.Output())
		}
		if text := string(buf[:n]); strings.Contains(text, part) {
			return text
		}
	}
}

// prioritized fails unless the log is one for the journal.
func prioritized(t *testing.T, log string, want ...string) {
	t.Helper()
	for line := range strings.Lines(log) {
		if len(line) < 3 || line[0] != '<' || line[2] != '>' {
			t.Errorf("a line without a priority: %s", line)
		}
	}
	for _, w := range want {
		if !strings.Contains(log, "\n"+w) && !strings.HasPrefix(log, w) {
			t.Errorf("no line %s in\n%s", w, log)
		}
	}
}

// Both programs tell a service manager when they are ready, reload, stop and live, and write
// what the journal sorts by.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	dir, bins, m := t.TempDir(), binaries(t), newManager(t)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	signal := func(p *harness.Proc, s os.Signal) {
		t.Helper()
		if err := p.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	conf := write("collector.conf", "listen = 127.0.0.1:0\nhttp =\n")
	c := m.start(bins.Collector, "serve", "--config", conf, "--store", dir+"/store")
	m.hears(c, "EXTEND_TIMEOUT_USEC=")
	m.hears(c, "READY=1\nSTATUS=receiving on 127.0.0.1:")
	for range 2 {
		m.hears(c, "WATCHDOG=1")
	}
	signal(c, syscall.SIGHUP)
	m.hears(c, "RELOADING=1\nMONOTONIC_USEC=")
	m.hears(c, "READY=1\nSTATUS=receiving on 127.0.0.1:")
	write("collector.conf", "listen = 127.0.0.1:0\nhttp =\nmax_days = often\n")
	signal(c, syscall.SIGHUP)
	m.hears(c, "RELOADING=1")
	if got := m.hears(c, "READY=1"); !strings.Contains(got, "the configuration was not read again: "+conf+":3: max_days: ") {
		t.Errorf("told %q", got)
	}
	signal(c, syscall.SIGTERM)
	m.hears(c, "STOPPING=1")
	if err := c.Wait(time.Minute); err != nil {
		t.Error(err)
	}
	prioritized(t, c.Output(), "<6>[INFO]  collector: ready", "<3>[ERROR] collector: the configuration was not read again")

	log := write("audit.log", "type=USER msg=audit(1.000:1): x=1\n")
	remote := write("remote.conf", "remote_server = 127.0.0.1\nport = 1\n")
	f := m.start(bins.Forwarder, "--source", log, "--follow", "--remote-config", remote, "--spool", dir+"/spool", "--report", dir+"/report", "--shutdown-timeout", "1ms")
	m.hears(f, "READY=1\nSTATUS=records of "+log)
	for range 2 {
		m.hears(f, "WATCHDOG=1")
	}
	signal(f, syscall.SIGHUP)
	m.hears(f, "RELOADING=1\nMONOTONIC_USEC=")
	m.hears(f, "READY=1\nSTATUS=records of "+log)
	write("remote.conf", "remote_server = 127.0.0.1\nport = none\n")
	signal(f, syscall.SIGHUP)
	m.hears(f, "RELOADING=1")
	if got := m.hears(f, "READY=1"); !strings.Contains(got, fmt.Sprintf("%s:2: port: ", remote)) {
		t.Errorf("told %q", got)
	}
	signal(f, syscall.SIGTERM)
	m.hears(f, "STOPPING=1")
	_ = f.Wait(time.Minute) // not all is acknowledged
	prioritized(t, f.Output(), "<3>[ERROR] forwarder: the configuration could not be read again")
}
