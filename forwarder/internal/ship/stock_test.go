package ship

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/need"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// stockServer starts the stock auditd as a server only: it listens on loopback
// and doesn't touch the kernel. It returns its address, a func that stops it and
// returns the records in its log, and its process.
func stockServer(t testing.TB) (addr string, stop func() []byte, proc *os.Process) {
	t.Helper()
	need.Root(t)
	need.Stock(t, "auditd")
	need.Stock(t, "unshare")
	dir := t.TempDir()
	for _, d := range []string{"etc", "log", "run", "plugins"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = ln.Addr().String()
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	log := filepath.Join(dir, "log", "audit.log")
	conf := fmt.Sprintf(`local_events = no
log_file = %s
log_format = RAW
flush = INCREMENTAL_ASYNC
freq = 50
max_log_file = 500
max_log_file_action = IGNORE
space_left = 75
space_left_action = IGNORE
admin_space_left = 50
admin_space_left_action = IGNORE
disk_full_action = IGNORE
disk_error_action = IGNORE
use_libwrap = no
tcp_listen_port = %d
tcp_max_per_addr = 10
name_format = NONE
plugin_dir = %s
`, log, port, filepath.Join(dir, "plugins"))
	if err := os.WriteFile(filepath.Join(dir, "etc", "auditd.conf"), []byte(conf), 0o640); err != nil {
		t.Fatal(err)
	}
	// Its pid file is always below /run: in a mount namespace of its own that is ours.
	cmd := exec.Command("unshare", "-m", "sh", "-c", `mount --bind "$1/run" /run && exec auditd -n -c "$1/etc"`, "sh", dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	over := false
	end := func() {
		if over {
			return
		}
		over = true
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
			t.Error("auditd had to be killed")
		}
	}
	t.Cleanup(end)
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			break
		}
		if time.Since(began) > 10*time.Second {
			end()
			t.Fatalf("auditd doesn't listen: %v\n%s", err, &out)
		}
	}
	return addr, func() []byte {
		end()
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		var own bytes.Buffer
		for l := range bytes.Lines(text) {
			if !bytes.HasPrefix(l, []byte("type=DAEMON_")) {
				own.Write(l)
			}
		}
		return own.Bytes()
	}, cmd.Process
}

// stockRecords are records as hosts send them, of every length up to what a
// stock server keeps, with every byte but NUL and newline.
func stockRecords(n int) (records []string, log []byte) {
	rng := rand.New(rand.NewPCG(4, 2))
	for i := range n {
		l := fmt.Appendf(nil, "node=web%d type=USER_CMD msg=audit(1700000000.%03d:%d): pid=%d cmd=", i%7, i%1000, i, i)
		size := rng.IntN(500)
		if i%500 == 0 {
			size = remote.StockServerMax - len(l)
		}
		for range size {
			b := byte(1 + rng.IntN(255))
			if b == '\n' {
				b = 0x1d
			}
			l = append(l, b)
		}
		records = append(records, string(l))
		log = append(append(log, l...), '\n')
	}
	return records, log
}

func TestStockServerStoresByteForByte(t *testing.T) {
	addr, stop, _ := stockServer(t)
	records, want := stockRecords(20000)
	src := newSource(records...)
	m := &Metrics{}
	s, end := start(t, Config{Servers: []string{addr}, Metrics: m, Heartbeat: 50 * time.Millisecond}, src)
	began := time.Now()
	drain(t, s)
	t.Logf("20,000 records acknowledged in %v", time.Since(began))
	until(t, func() bool { return m.Heartbeats.Load() >= 2 }) // answered too, or it would reconnect
	end()
	if got := stop(); !bytes.Equal(got, want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		t.Errorf("log of %d bytes, want %d; they differ at %d", len(got), len(want), at)
	}
	if m.Resent.Load() != 0 || m.Reconnects.Load() != 0 || m.UnexpectedReplies.Load() != 0 {
		t.Errorf("resent %d, reconnects %d, unexpected replies %d", m.Resent.Load(), m.Reconnects.Load(), m.UnexpectedReplies.Load())
	}
}

// A record over what a stock server keeps costs a reconnect, not the records
// around it.
func TestStockServerOverLongRecord(t *testing.T) {
	addr, stop, _ := stockServer(t)
	long := bytes.Repeat([]byte("z"), remote.MaxLength)
	var records []string
	for i := range 50 {
		records = append(records, fmt.Sprintf("type=USER msg=audit(1700000000.000:%d): before", i))
	}
	records = append(records, string(long), "type=USER msg=audit(1700000000.000:100): after")
	src := newSource(records...)
	m := &Metrics{}
	s, end := start(t, Config{Servers: []string{addr}, Metrics: m}, src)
	drain(t, s)
	end()
	got := stop()
	for i, r := range records {
		if i == 50 {
			r = r[:remote.StockServerMax]
		}
		if !bytes.Contains(got, []byte(r+"\n")) {
			t.Errorf("record %d isn't in the log", i)
		}
	}
	if m.Reconnects.Load() == 0 {
		t.Error("no reconnect: a stock server keeps long records now, and StockServerMax can go")
	}
}

// A stock server that stops says so.
func TestStockServerEnding(t *testing.T) {
	addr, stop, proc := stockServer(t)
	src := newSource(lines(100)...)
	m := &Metrics{}
	s, _ := start(t, Config{Servers: []string{addr}, Metrics: m}, src)
	drain(t, s)
	if err := proc.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return m.Endings.Load() == 1 && m.ConnectFailures.Load() > 0 })
	if got := bytes.Count(stop(), []byte("\n")); got != 100 {
		t.Errorf("%d records in the log, want 100", got)
	}
}
