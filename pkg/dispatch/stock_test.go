package dispatch

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/conf"
)

func writeFile(t *testing.T, path string, mode os.FileMode, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := need.Program(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// The stock audisp-remote, as it is, carries every record to a stock server; EOE
// it keeps to itself. (It reads lines only, whatever format says.)
func TestStockRemotePlugin(t *testing.T) {
	t.Parallel()
	need.Root(t)
	remote := need.Stock(t, "audisp-remote")
	need.Stock(t, "auditd")
	server, err := harness.StartAuditdServer(t.TempDir(), map[string]string{"tcp_max_per_addr": "9"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Terminate(time.Minute); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	// Its configuration's place is fixed.
	writeFile(t, dir+"/remote.conf", 0o640, fmt.Sprintf("remote_server = 127.0.0.1\nport = %d\nmode = immediate\nqueue_depth = 10000\nheartbeat_timeout = 0\n", server.Port))
	if err := os.Mkdir(dir+"/spool", 0o700); err != nil {
		t.Fatal(err)
	}
	script := writeFile(t, dir+"/remote", 0o755, fmt.Sprintf("#!/bin/sh\nexec unshare -m sh -c 'mount --bind %[1]s/spool /var/spool && mount --bind %[1]s/remote.conf /etc/audit/audisp-remote.conf && exec %[2]s'\n", dir, remote))
	p := conf.Plugin{Name: "au-remote", Active: true, Direction: "out", Path: script, Type: conf.PluginAlways, Format: conf.FormatString}
	d, said := start(t, Config{Settings: Settings{Depth: 10000}, StopTimeout: 20 * time.Second, Plugins: []conf.Plugin{p}})
	const n = 3000
	for i := range n {
		b := NewBatch(0, 0)
		b.Add(1300, []byte(line(i)))
		b.Add(1320, fmt.Appendf(nil, "type=EOE msg=audit(1700000000.%03d:%d): ", i%1000, i))
		d.Put(b)
	}
	records := func() string {
		var out strings.Builder
		for l := range strings.Lines(content(server.LogFile)) {
			if !strings.HasPrefix(l, "type=DAEMON_") {
				out.WriteString(l)
			}
		}
		return out.String()
	}
	// It drops what it still holds when its input ends, so the end comes after the last record.
	wait(t, "all records at the server", func() bool { return strings.Count(records(), "\n") >= n })
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lines(0, n), records()); diff != "" {
		t.Errorf("%.2000s", diff)
	}
	if strings.Contains(said.String(), "unexpectedly") {
		t.Error("it died")
	}
}

// The stock audisp-syslog writes what our builtin writes, but for the newline at
// each message's end.
func TestStockSyslogPlugin(t *testing.T) {
	t.Parallel()
	need.Root(t)
	plugin := need.Stock(t, "audisp-syslog")
	dir := t.TempDir()
	dev := dir + "/dev"
	if err := os.Mkdir(dev, 0o755); err != nil {
		t.Fatal(err)
	}
	receive := func(path string) *net.UnixConn {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	stock, ours := receive(dev+"/log"), receive(dir+"/log")
	script := writeFile(t, dir+"/syslog", 0o755, fmt.Sprintf("#!/bin/sh\nexec unshare -m sh -c 'mount --bind %s /dev && exec %s \"$@\"' - \"$@\"\n", dev, plugin))
	args := []string{"LOG_NOTICE", "LOG_LOCAL3"}
	d, _ := start(t, Config{SyslogPath: dir + "/log", Plugins: []conf.Plugin{
		{Name: "stock", Active: true, Path: script, Type: conf.PluginAlways, Args: args, Format: conf.FormatString},
		{Name: "ours", Active: true, Path: "builtin_syslog", Type: conf.PluginBuiltin, Args: args},
	}})
	const n = 20
	put(d, 0, n)
	read := func(c *net.UnixConn) (out []string) {
		buf := make([]byte, 9000)
		for len(out) < n {
			if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			m, err := c.Read(buf)
			if err != nil {
				t.Fatalf("%v after %q", err, out)
			}
			text := strings.TrimSuffix(string(buf[:m]), "\n")
			if strings.Contains(text, "audispd: ") { // it also says that it has started
				pri, rest, _ := strings.Cut(text, ">")
				out = append(out, pri+rest[len(time.Stamp):])
			}
		}
		return out
	}
	if diff := cmp.Diff(read(stock), read(ours)); diff != "" {
		t.Error(diff)
	}
}
