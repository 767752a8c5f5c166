package agent

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/lines"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	audisp "github.com/auditfleet/auditfleet/forwarder/internal/ship/remote"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

func shipTo(addrs ...string) *ship.Config {
	return &ship.Config{Servers: addrs, Transport: audisp.Transport{}, BackoffMin: time.Millisecond, BackoffMax: 20 * time.Millisecond}
}

func writeLines(t testing.TB, path string, lines []string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(strings.Join(lines, "\n") + "\n"); err != nil {
		t.Fatal(err)
	}
}

func TestFileIsDrained(t *testing.T) {
	dir := t.TempDir()
	c := newCollector(t)
	want := sample(1, 5000)
	writeLines(t, dir+"/in.log", want)
	s := startAgent(t, Config{Source: dir + "/in.log", Ship: shipTo(c.addr), Spool: spool.Options{Dir: dir + "/spool"}})
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, c.got()); diff != "" {
		t.Error(diff)
	}
}

func TestStdinWithNode(t *testing.T) {
	c := newCollector(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := startAgent(t, Config{Source: SourceStdin, Stdin: r, Node: "web1", Ship: shipTo(c.addr), Spool: spool.Options{Dir: t.TempDir() + "/spool"}})
	want := sample(1, 300)
	for _, l := range want {
		fmt.Fprintln(w, l)
	}
	wait(t, "records on their way while the pipe is open", func() bool { return len(c.got()) == len(want) })
	w.Close()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		want[i] = "node=web1 " + want[i]
	}
	if diff := cmp.Diff(want, c.got()); diff != "" {
		t.Error(diff)
	}
}

// Without a collector the end of the input is an error that says what is left,
// and the next run sends that first.
func TestWhatIsLeftGoesOutLater(t *testing.T) {
	dir := t.TempDir()
	lines := sample(1, 100)
	writeLines(t, dir+"/in.log", lines)
	cfg := Config{Source: dir + "/in.log", Ship: shipTo("127.0.0.1:1"), Spool: spool.Options{Dir: dir + "/spool"}, DrainTimeout: 50 * time.Millisecond}
	err := startAgent(t, cfg).end(t)
	if !errors.Is(err, ErrLeft) || !strings.Contains(err.Error(), "100 records") || !strings.Contains(err.Error(), dir+"/spool") {
		t.Fatalf("%v: want ErrLeft with how many and where", err)
	}
	c := newCollector(t)
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Source, cfg.Ship, cfg.DrainTimeout = empty, shipTo(c.addr), 0
	if err := startAgent(t, cfg).end(t); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lines, c.got()); diff != "" {
		t.Error(diff)
	}
}

// A file larger than the spool: reading waits for the collector, nothing is dropped.
func TestFileWaitsForTheSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newCollector(t)
	pad := strings.Repeat("p", 400)
	var want []string
	for _, l := range sample(1, 8000) {
		want = append(want, l+pad)
	}
	writeLines(t, dir+"/in.log", want)
	sc := shipTo(c.addr)
	sc.Window = 64
	s := startAgent(t, Config{Source: dir + "/in.log", Ship: sc, Spool: spool.Options{Dir: dir + "/spool", MaxBytes: 1 << 20}})
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	if got := c.got(); len(got) != len(want) || got[len(got)-1] != want[len(want)-1] {
		t.Errorf("%d of %d records", len(got), len(want))
	}
}

func TestFollowThroughRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := dir + "/audit.log"
	c := newCollector(t)
	state := dir + "/state"
	cfg := Config{Source: path, Follow: true, StateFile: state, Ship: shipTo(c.addr), Spool: spool.Options{Dir: dir + "/spool"}}
	var want []string
	next := func(n int) {
		lines := sample(len(want)+1, n)
		want = append(want, lines...)
		writeLines(t, path, lines)
	}
	rotate := func() {
		for i := 5; i >= 1; i-- {
			from := fmt.Sprintf("%s.%d", path, i-1)
			if i == 1 {
				from = path
			}
			if err := os.Rename(from, fmt.Sprintf("%s.%d", path, i)); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
	}
	all := func() bool { return len(c.got()) == len(want) }
	next(10)
	s := startAgent(t, cfg)
	wait(t, "what was there", all)
	next(10)
	wait(t, "what was added", all)
	rotate()
	next(10)
	wait(t, "after one rotation", all)
	next(5)
	rotate()
	next(5)
	rotate()
	next(5)
	wait(t, "after two rotations at once", all)
	// A line in two writes.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	line := sample(len(want)+1, 1)[0]
	want = append(want, line)
	fmt.Fprint(f, line[:20])
	time.Sleep(300 * time.Millisecond)
	fmt.Fprintln(f, line[20:])
	f.Close()
	wait(t, "a line in two writes", all)
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	// While nobody reads: more, a rotation, more. Then on from there.
	next(3)
	rotate()
	next(3)
	rotate()
	next(3)
	s = startAgent(t, cfg)
	wait(t, "what came while it was down", all)
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	// Emptied in its place (copytruncate).
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	next(1)
	s = startAgent(t, cfg)
	wait(t, "after it was emptied", all)
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, c.got()); diff != "" {
		t.Error(diff)
	}
	if err := os.WriteFile(state, []byte("something else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), cfg); !errors.Is(err, lines.ErrStateFile) {
		t.Errorf("a strange state file: %v, want ErrStateFile", err)
	}
}

const me = 100

// fake is an agent on a fake kernel.
func fake(k *fakekernel.Kernel, cfg Config) Config {
	if cfg.Source == "" {
		cfg.Source = SourceKernel
	}
	cfg.Kernel.Enable = kernel.Enable
	cfg.OpenKernel = func(kc kernel.Config) (*kernel.Listener, error) {
		kc.PID, kc.Linger, kc.StatusEvery = me, -1, 10*time.Millisecond
		kc.Socket = k.Socket(me, 1<<20, kc.Multicast)
		kc.Control = k.Conn(me)
		return kernel.Open(kc)
	}
	return cfg
}

// masked replaces what differs from run to run, and takes out what only a kernel with
// a security module has.
func masked(lines []string) []string {
	re := regexp.MustCompile(`audit\([0-9.]+:[0-9]+\)|(auid|pid|uid|ses|first|last)=[0-9.]+|kernel=\S+| subj=\S+`)
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = re.ReplaceAllStringFunc(l, func(s string) string {
			if strings.HasPrefix(s, "audit(17000") {
				return s
			}
			name, _, _ := strings.Cut(s, "=")
			if name == " subj" {
				return ""
			}
			return name[:min(len(name), 6)]
		})
		out[i] = strings.ReplaceAll(out[i], "audit(", "audit")
	}
	return out
}

func TestKernelToLogAndCollector(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := fakekernel.New()
	c := newCollector(t)
	k.SetSignal(kernel.SignalInfo{UID: 1000, PID: 1 << 30})
	s := startAgent(t, fake(k, Config{
		Node: "web1", Version: "1.2", Ship: shipTo(c.addr), Spool: spool.Options{Dir: dir + "/spool"},
		Log: locallog.Config{Path: dir + "/log/audit.log", NumLogs: 5},
	}))
	for i := range 100 {
		k.Emit(1300, fmt.Sprint("syscall ", i))
		k.Emit(1320, "")
	}
	k.SetStatus(func(s *kernel.Status) { s.Lost += 7 })
	wait(t, "the loss is told", func() bool {
		got := c.got()
		return len(got) > 0 && strings.Contains(got[len(got)-1], "op=lost-records cause=kernel records=7 ")
	})
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	got := c.got()
	if diff := cmp.Diff(got, fileLines(t, dir+"/log/audit.log")); diff != "" {
		t.Errorf("the local log and the collector differ: %s", diff)
	}
	if n := len(got); n != 105 {
		t.Fatalf("%d records, want start, enabled on, 100, loss, enabled off, end: %q", n, got)
	}
	ours := masked([]string{got[0], got[2], got[102], got[104]})
	want := []string{
		"node=web1 type=DAEMON_START msg=audit: op=start ver=1.2 format=raw kernel auid pid uid ses res=success",
		"node=web1 type=SYSCALL msg=audit1700000000.002:2): syscall 0",
		"node=web1 type=DAEMON_ERR msg=audit: op=lost-records cause=kernel records=7 first last auid pid res=failed",
		"node=web1 type=DAEMON_END msg=audit: op=terminate auid uid ses pid res=success",
	}
	if diff := cmp.Diff(want, ours); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(got[104], " auid=1000 ") || !strings.Contains(got[104], " pid=1073741824 ") {
		t.Errorf("%q does not say who ended us", got[104])
	}
	if st := k.Status(); st.PID != 0 || st.Enabled != 0 {
		t.Errorf("the kernel is left with %+v", st)
	}
}

// A local log whose disk hangs delays the local log and what follows the pump,
// never the reader of the kernel's socket.
func TestHangingDiskDoesNotStopTheReader(t *testing.T) {
	dir := t.TempDir()
	k := fakekernel.New()
	hang := make(chan struct{})
	release := sync.OnceFunc(func() { close(hang) })
	fsx := &hangingFS{FS: fsys.OS, hang: hang}
	cfg := fake(k, Config{Log: locallog.Config{Path: dir + "/log/audit.log", FS: fsx, Flush: locallog.FlushNone}})
	s := startAgent(t, cfg)
	t.Cleanup(release)
	const n = 20000
	for i := range n {
		k.Emit(1300, "x")
		if i%1000 == 999 {
			wait(t, "the reader goes on", func() bool { return s.daemon.listener.Stats().Records >= uint64(i) })
		}
	}
	release()
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	lines := fileLines(t, dir+"/log/audit.log")
	count := 0
	for _, l := range lines {
		if strings.HasSuffix(l, ": x") {
			count++
		}
	}
	if count != n || k.Status().Lost != 0 {
		t.Errorf("%d of %d in the log, the kernel lost %d", count, n, k.Status().Lost)
	}
}

type hangingFS struct {
	fsys.FS
	hang chan struct{}
}

type hangingFile struct {
	fsys.File
	hang chan struct{}
}

func (h *hangingFS) OpenFile(name string, flag int, perm os.FileMode) (fsys.File, error) {
	f, err := h.FS.OpenFile(name, flag, perm)
	return &hangingFile{f, h.hang}, err
}

func (f *hangingFile) Write(b []byte) (int, error) {
	<-f.hang
	return f.File.Write(b)
}

// The spool's disk is full: records are in the local log, counted, and the loss
// is told once the spool takes records again: the record that tells it, and not before.
func TestSpoolThatTakesNothing(t *testing.T) {
	now := time.Unix(1700000000, 0)
	sp := &refusing{err: spool.ErrFull}
	p := &pump{spool: sp, now: func() time.Time { return now }, logger: hclog.NewNullLogger()}
	a := &Agent{cfg: Config{Now: p.now}, own: newOwn("1", p.now)}
	a.pump.spool, a.pump.now, a.pump.logger = sp, p.now, p.logger
	a.emit(kernel.Record{Type: 1300, Text: []byte("audit(1.000:1): a")}, kernel.Record{Type: 1300, Text: []byte("audit(1.000:2): b")})
	if n := a.pump.spoolError.Load(); n != 2 || !a.pump.failing {
		t.Errorf("%d counted", n)
	}
	sp.err = nil
	a.emit(kernel.Record{Type: 1300, Text: []byte("audit(1.000:3): c")})
	if u := a.pump.unspooled; u.n != 2 || !u.first.Equal(now) || a.pump.failing {
		t.Errorf("%d to be told, from %v", u.n, u.first)
	}
	handed := a.pump.records.Load()
	say := func() { a.pump.announceUnspooled(a.own.lost("spool-error", a.pump.unspooled.n, now, now)) }
	sp.err = spool.ErrFull // full again just then
	say()
	if u := a.pump.unspooled; u.n != 2 || a.pump.records.Load() != handed {
		t.Errorf("%d to be told, %d records handed on to the local log", u.n, a.pump.records.Load()-handed)
	}
	sp.err = nil
	say()
	if u := a.pump.unspooled; u.n != 0 || a.pump.records.Load() != handed+1 {
		t.Errorf("%d to be told, %d records handed on to the local log", u.n, a.pump.records.Load()-handed)
	}
	if len(sp.got) != 2 || !strings.Contains(sp.got[1], "cause=spool-error records=2 ") {
		t.Errorf("%q", sp.got)
	}
}

type refusing struct {
	err error
	got []string
}

func (r *refusing) Append(_ []byte, lines ...[]byte) error {
	if r.err != nil {
		return r.err
	}
	for _, l := range lines {
		r.got = append(r.got, string(l))
	}
	return nil
}

func TestTakeoverEndsTheAgent(t *testing.T) {
	k := fakekernel.New()
	s := startAgent(t, fake(k, Config{Log: locallog.Config{Path: t.TempDir() + "/log/audit.log"}}))
	k.OtherDaemon(1)
	if err := s.end(t); !errors.Is(err, kernel.ErrOtherDaemon) {
		t.Errorf("%v, want ErrOtherDaemon", err)
	}
}

func TestRotateAndResume(t *testing.T) {
	dir := t.TempDir()
	k := fakekernel.New()
	s := startAgent(t, fake(k, Config{Log: locallog.Config{Path: dir + "/log/audit.log", NumLogs: 3}}))
	s.Rotate()
	s.Resume()
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(masked(append(fileLines(t, dir+"/log/audit.log.1"), fileLines(t, dir+"/log/audit.log")...)), "\n")
	at := 0
	for _, want := range []string{"type=DAEMON_START ", "type=DAEMON_ROTATE msg=audit: op=rotate-logs auid uid ses pid res=success", "type=DAEMON_RESUME msg=audit: op=resume-logging auid uid ses pid res=success", "type=DAEMON_END "} {
		i := strings.Index(got[at:], want)
		if i < 0 {
			t.Fatalf("no %q in its place:\n%s", want, got)
		}
		at += i
	}
	s.Rotate() // after the end: returns
}

func TestMetrics(t *testing.T) {
	k := fakekernel.New()
	c := newCollector(t)
	s := startAgent(t, fake(k, Config{Source: SourceMulticast, Ship: shipTo(c.addr), Spool: spool.Options{Dir: t.TempDir() + "/spool"}, HTTP: "127.0.0.1:0"}))
	k.Emit(1300, "one")
	wait(t, "it is acknowledged", func() bool { return s.ship.metrics.Acked.Load() == 1 })
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + s.HTTPAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"auditfleet_forwarder_records_total 1", "auditfleet_forwarder_kernel_records_total 1", "auditfleet_forwarder_sent_total 1",
		"auditfleet_forwarder_acked_total 1", "auditfleet_forwarder_spool_records 0", "auditfleet_forwarder_connected 1",
		`auditfleet_forwarder_lost_total{cause="kernel"} 0`, `auditfleet_forwarder_lost_total{cause="queue"} 0`, `auditfleet_forwarder_lost_total{cause="spool-full"} 0`,
		"auditfleet_forwarder_reconnects_total 0", "auditfleet_forwarder_spool_age_seconds 0", "auditfleet_forwarder_kernel_queue_bytes 0",
	} {
		if !strings.Contains(string(body), "\n"+want+"\n") {
			t.Errorf("no %q", want)
		}
	}
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	if len(k.Requests()) == 0 || k.Status().PID != 0 || k.Status().Enabled != 0 {
		t.Errorf("multicast changed the kernel: %+v", k.Status())
	}
}

func TestOpenReleasesEverything(t *testing.T) {
	dir := t.TempDir()
	k := fakekernel.New()
	k.OtherDaemon(1)
	cfg := fake(k, Config{Ship: shipTo("127.0.0.1:1"), Spool: spool.Options{Dir: dir + "/spool"}, Log: locallog.Config{Path: dir + "/log/audit.log"}, HTTP: "127.0.0.1:0"})
	for range 2 { // a lock or a port that was kept would show in the second try
		if _, err := Open(t.Context(), cfg); !errors.Is(err, kernel.ErrOtherDaemon) {
			t.Fatalf("%v, want ErrOtherDaemon", err)
		}
	}
	held, _, err := spool.Open(spool.Options{Dir: dir + "/spool"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), cfg); !errors.Is(err, fsys.ErrLocked) {
		t.Errorf("a spool in use: %v, want ErrLocked", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{dir + "/nothing": "no such file", dir: "is a folder"} {
		cfg := cfg
		cfg.Source = source
		if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", source, err, want)
		}
	}
	cfg.Node = "two words"
	if _, err := Open(t.Context(), cfg); !errors.Is(err, ErrNodeName) {
		t.Errorf("%v, want ErrNodeName", err)
	}
}
