package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// TestBadPeers: what is no frame and no line ends its own connection with a
// word in the log that names the peer; the server and a good sender's records stay.
func TestBadPeers(t *testing.T) {
	t.Parallel()
	c := startCollector(t, harness.CollectorOptions{Args: []string{"--tcp-max-per-addr", "64", "--frame-timeout", "1s"}})
	sent := realLog(t, harness.RecordedEnriched(), harness.Make{Seed: 31, Records: 6000, Nodes: []string{"good1"}})
	in := newPacer(t, sent, 0, 20*time.Millisecond)
	good, err := harness.StartForwarder(binaries(t), t.TempDir(), c.Addr(), "stdin", in.r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(good.Kill)
	in.start()

	message := remote.Append(nil, remote.Message, 1, []byte("type=USER msg=audit(1763600000.000:1): pid=1"))
	version := bytes.Clone(message)
	version[4] = 7
	long := remote.AppendHeader(nil, remote.Message, 1, remote.MaxLength+1)
	for _, bad := range []struct {
		name  string
		bytes []byte
		says  []string // in the log, beside the peer's address
	}{
		{"garbage without an end", bytes.Repeat([]byte{0x80, 0x01, 0xff, 0x7f, 'G'}, 4000), []string{"line", "8971"}},
		{"a wrong version", version, []string{"version"}},
		{"a length over the limit", append(long, bytes.Repeat([]byte("x"), 100)...), []string{"8971"}},
		{"a line over the limit", append(bytes.Repeat([]byte("x"), remote.MaxLength+10), '\n'), []string{"line", "8971"}},
		{"a frame cut short, then silence", message[:30], []string{"frame"}},
	} {
		t.Run(bad.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", c.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write(bad.bytes); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			rest, err := io.ReadAll(conn)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("the connection was still open after 15s; got %q", rest)
			}
			port := conn.LocalAddr().(*net.TCPAddr).Port
			var said string
			harness.Poll(time.Minute, func() bool {
				said = linesWith(c.Output(), fmt.Sprintf(":%d", port))
				return said != ""
			})
			for _, want := range bad.says {
				if !strings.Contains(said, want) {
					t.Errorf("the log says of port %d %q, want %q in it; all of it:\n%s", port, said, want, c.Output())
				}
			}
		})
	}
	if err := good.Wait(time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := <-in.done; err != nil {
		t.Fatal(err)
	}
	sameRecords(t, sent, foundAll(t, c, len(sent), "-n", "good1"))
	if c.Exited() {
		t.Error("the collector has ended")
	}
}

func linesWith(text, part string) string {
	var out []string
	for _, line := range strings.Split(text, "\n") {
		if strings.Contains(line, part) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// fails starts a collector that cannot start, and checks what it says.
func fails(t *testing.T, o harness.CollectorOptions, says ...string) {
	t.Helper()
	c, err := harness.LaunchCollector(binaries(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	select {
	case <-c.Done():
	case <-time.After(time.Minute):
		t.Fatalf("it runs; its output:\n%s", c.Output())
	}
	if c.ExitCode() == 0 {
		t.Errorf("it ended with 0; its output:\n%s", c.Output())
	}
	for _, want := range says {
		if !strings.Contains(c.Output(), want) {
			t.Errorf("want %q in what it said:\n%s", want, c.Output())
		}
	}
	if strings.Contains(c.Output(), "goroutine ") {
		t.Errorf("it panicked:\n%s", c.Output())
	}
}

// TestCannotStart: a port or a store that cannot be had is said with its name
// and what to do, and what is there is not touched.
func TestCannotStart(t *testing.T) {
	t.Parallel()
	first := startCollector(t, harness.CollectorOptions{})
	sent := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 32, Records: 1000, Nodes: []string{"kept1"}})
	forward(t, t.TempDir(), first.Addr(), "stdin", sent)

	t.Run("port in use", func(t *testing.T) {
		fails(t, harness.CollectorOptions{Store: t.TempDir() + "/store", Port: first.Port}, first.Addr(), "in use", "--listen")
	})
	t.Run("locked store", func(t *testing.T) {
		fails(t, harness.CollectorOptions{Store: first.Store}, first.Store, "in use by pid", "stop it")
	})
	sameRecords(t, sent, foundAll(t, first, len(sent)))
	if err := first.Terminate(time.Minute); err != nil {
		t.Fatal(err)
	}

	t.Run("foreign store", func(t *testing.T) {
		dir := t.TempDir()
		note := filepath.Join(dir, "thesis.txt")
		if err := os.WriteFile(note, []byte("not an audit store"), 0o600); err != nil {
			t.Fatal(err)
		}
		fails(t, harness.CollectorOptions{Store: dir}, dir, "store")
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 1 {
			t.Errorf("afterwards the folder holds %v (%v), want the note alone", left, err)
		}
	})
	t.Run("newer store", func(t *testing.T) {
		marker := filepath.Join(first.Store, "VERSION")
		old, err := os.ReadFile(marker)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(marker, regexp.MustCompile(`(store )[0-9]+`).ReplaceAll(old, []byte("${1}99")), 0o600); err != nil {
			t.Fatal(err)
		}
		fails(t, harness.CollectorOptions{Store: first.Store}, first.Store, "99", "newer")
		r, err := first.Search(time.Minute, "-k", "exec")
		if err != nil || r.Code == 0 || !bytes.Contains(r.Stderr, []byte("99")) {
			t.Errorf("search in it: exit %d, %q, %v; want an error that names the version", r.Code, r.Stderr, err)
		}
		if err := os.WriteFile(marker, old, 0o600); err != nil {
			t.Fatal(err)
		}
		sameRecords(t, sent, foundAll(t, first, len(sent)))
	})
	t.Run("no such store", func(t *testing.T) {
		gone := &harness.Collector{Store: filepath.Join(t.TempDir(), "nowhere")}
		r, err := harness.Run(time.Minute, binaries(t).Collector, "search", "--store", gone.Store, "-k", "x")
		if err != nil || r.Code == 0 || !bytes.Contains(r.Stderr, []byte(gone.Store)) {
			t.Errorf("exit %d, %q, %v; want an error that names the folder", r.Code, r.Stderr, err)
		}
	})
}

// TestUnknownKey: a key the configuration does not know is an error with file
// and line, in each file the two programs read.
func TestUnknownKey(t *testing.T) {
	t.Parallel()
	bins := binaries(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		return path
	}
	collectorConf := file("collector.conf", "# a comment\ntcp_listen_port = 0\ntcp_max_per_adr = 3\n")
	auditdConf := file("auditd.conf", "local_events = yes\nlog_fil = /x\n")
	remoteConf := file("audisp-remote.conf", "remote_server = localhost\n\nqueue_dept = 5\n")
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{bins.Collector, "serve", "--config", collectorConf, "--store", dir + "/s"}, []string{collectorConf + ":3", "tcp_max_per_adr", "tcp_max_per_addr"}},
		{[]string{bins.Forwarder, "run", "--config", auditdConf, "--remote", "127.0.0.1:9", "--source", "stdin", "--spool", dir + "/spool"}, []string{auditdConf + ":2", "log_fil", "log_file"}},
		{[]string{bins.Forwarder, "run", "--remote-config", remoteConf, "--source", "stdin", "--spool", dir + "/spool"}, []string{remoteConf + ":3", "queue_dept", "queue_depth"}},
	} {
		r, err := harness.Run(time.Minute, c.args...)
		if err != nil {
			t.Fatal(err)
		}
		if r.Code == 0 {
			t.Errorf("%v ended with 0", c.args)
		}
		for _, want := range c.says {
			if !bytes.Contains(r.Stderr, []byte(want)) {
				t.Errorf("%v: want %q in %q", c.args, want, r.Stderr)
			}
		}
	}
}

// TestFullDisk: the collector's disk fills up. Senders are told, what was
// acknowledged is found, the process stays; with room again all goes on, and in
// the end every record is there once.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	need.Tmpfs(t, dir, "size=24m")
	// Without a reserve the journal runs into the disk's end; with one, these
	// records would be in their partition, where they take a twentieth of the space.
	c := startCollector(t, harness.CollectorOptions{Store: dir + "/store", Args: []string{"--tcp-max-per-addr", "64", "--disk-reserve", "0"}})
	early := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 33, Records: 5000, Nodes: []string{"early1"}})
	forward(t, t.TempDir(), c.Addr(), "stdin", early)

	ballast := filepath.Join(dir, "ballast")
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ballast, make([]byte, int64(st.Bavail)*st.Bsize-1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	late := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 34, Records: 150_000, Nodes: []string{"late1"}})
	p := startForwarder(t, t.TempDir(), c.Addr(), "stdin", late, "--drain-timeout", "5m")
	full := harness.Poll(time.Minute, func() bool {
		n, err := c.Metric("auditfleet_collector_rejected_records_total")
		return err == nil && n > 0
	})
	if !full {
		n, err := c.Metric("auditfleet_collector_records_total")
		t.Errorf("nobody was told of the full disk (%v records in, %v); the forwarder's output:\n%s", n, err, p.Output())
	}
	if p.Exited() {
		t.Errorf("the forwarder ended at the full disk:\n%s", p.Output())
	}
	if said := linesWith(c.Output(), "not stored"); !strings.Contains(said, "make room") {
		t.Errorf("the log does not say what to do about the full disk:\n%s", c.Output())
	}
	sameRecords(t, early, foundAll(t, c, len(early), "-n", "early1"))

	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=512m"); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(3 * time.Minute); err != nil {
		t.Error(err)
	}
	sameRecords(t, late, foundAll(t, c, len(late), "-n", "late1"))
	sameRecords(t, early, foundAll(t, c, len(early), "-n", "early1"))
	if err := c.Terminate(time.Minute); err != nil {
		t.Error(err)
	}
}
