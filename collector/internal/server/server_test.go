package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/sink"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/metrics/metricstest"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/service"
	"github.com/auditfleet/auditfleet/proto/fleet"
	"github.com/auditfleet/auditfleet/proto/remote"
)

func TestMain(m *testing.M) {
	need.Parallel(8) // they wait for disks, peers and ends
	goleak.VerifyTestMain(m)
}

// running is a collector under test.
type running struct {
	*Server
	t      *testing.T
	dir    string
	log    *need.Buffer
	notes  *[]string
	stopIt context.CancelFunc
	hurry  context.CancelFunc
	done   chan error
	asks   *api.Client
}

func testConfig(dir string) Config {
	return Config{Store: dir, Listen: []string{"127.0.0.1:0"}, HTTP: "127.0.0.1:0", Node: "collector.test", Version: "test"}
}

// shortDir is a folder whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fleet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "store")
}

func start(t *testing.T, cfg Config) *running {
	t.Helper()
	r := &running{t: t, dir: cfg.Store, log: &need.Buffer{}, done: make(chan error, 1), notes: &[]string{}}
	cfg.Log = hclog.New(&hclog.LoggerOptions{Output: r.log, Level: hclog.Debug})
	cfg.Service = service.To(func(s string) { *r.notes = append(*r.notes, s) }, cfg.Service.Watched())
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Server = s
	ctx, cancel := context.WithCancel(context.Background())
	hurry, cancelHurry := context.WithCancel(context.Background())
	r.stopIt, r.hurry = cancel, cancelHurry
	go func() { r.done <- s.Run(ctx, hurry) }()
	t.Cleanup(func() { r.stop() })
	eventually(t, "ready", s.ready.Load)
	return r
}

// stop ends the collector in good order, once.
func (r *running) stop() {
	r.t.Helper()
	if r.done == nil {
		return
	}
	r.stopIt()
	if err := <-r.done; err != nil {
		r.t.Errorf("Run: %v\n%s", err, r.log)
	}
	if err := r.Close(); err != nil {
		r.t.Errorf("Close: %v", err)
	}
	r.hurry()
	r.done = nil
}

var eventually = need.Wait

func (r *running) dial() net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.Addrs()[0].String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// exchange sends records and waits until all are acknowledged.
func exchange(t *testing.T, c net.Conn, first uint32, records ...string) {
	t.Helper()
	var out, want []byte
	for i, rec := range records {
		out = remote.Append(out, remote.Message, first+uint32(i), []byte(rec))
		want = remote.Append(want, remote.Ack, first+uint32(i), nil)
	}
	if _, err := c.Write(out); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("waiting for %d acknowledgements: %v", len(records), err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("replies % x, want % x", got, want)
	}
}

func userRecord(node string, serial int) string {
	return fmt.Sprintf("node=%s type=USER_LOGIN msg=audit(1700000%03d.250:%d): pid=%d uid=0 auid=1000 ses=1 msg='op=login acct=\"u%d\" exe=\"/usr/sbin/sshd\" hostname=? addr=10.0.0.1 terminal=ssh res=success'",
		node, serial%1000, serial, serial, serial)
}

// raws is every record a search finds, in order; own records of the collector
// only when node names it.
func raws(t *testing.T, scan func(context.Context, *query.Query, func(*event.Event) error) error, node string) []string {
	t.Helper()
	var out []string
	err := scan(context.Background(), &query.Query{Nodes: []string{node}, Unparsable: true}, func(ev *event.Event) error {
		for i := range ev.Records {
			out = append(out, string(ev.Records[i].Raw))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// client is one for all questions of a test: what waits for an answer asks hundreds of times, each a connection otherwise.
func (r *running) client() *api.Client {
	r.t.Helper()
	if r.asks != nil {
		return r.asks
	}
	c, err := api.Dial(context.Background(), r.cfg.API)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	r.asks = c
	return c
}

func scanner(c *api.Client) func(context.Context, *query.Query, func(*event.Event) error) error {
	return func(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
		return c.Scan(ctx, q, fn)
	}
}

func TestStoredFoundAndThereAfterTheEnd(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	r := start(t, testConfig(dir))
	var want []string
	for i := range 500 {
		want = append(want, userRecord("web1", i))
	}
	c := r.dial()
	exchange(t, c, 1, want...)
	client := r.client()
	eventually(t, "all are found", func() bool { return len(raws(t, scanner(client), "web1")) == len(want) })
	if diff := cmp.Diff(want, raws(t, scanner(client), "web1")); diff != "" {
		t.Errorf("found through the socket (-want +got):\n%s", diff)
	}
	hosts, err := client.Hosts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	web1 := slices.IndexFunc(hosts, func(h *fleet.Host) bool { return string(h.GetName()) == "web1" })
	if web1 < 0 || hosts[web1].GetRecords() != 500 || !hosts[web1].GetConnected() || !slices.Equal(hosts[web1].GetAddresses(), []string{"127.0.0.1"}) {
		t.Errorf("hosts: %v", hosts)
	}
	st, err := client.Status(context.Background())
	if err != nil || st.GetState() != "ok" || st.GetConnections() != 1 || st.GetPid() != uint32(os.Getpid()) {
		t.Errorf("status %v, error %v", st, err)
	}
	client.Close()
	r.stop()
	if end, err := io.ReadAll(c); err != nil || !bytes.Equal(end, remote.Append(nil, remote.Ending, 0, nil)) {
		t.Errorf("at the end the sender got % x, %v; want ENDING", end, err)
	}
	if _, err := os.Lstat(r.cfg.API); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	files, err := OpenReadOnly(dir, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	if diff := cmp.Diff(want, raws(t, files.Scan, "web1")); diff != "" {
		t.Errorf("found in the files (-want +got):\n%s", diff)
	}
	own := strings.Join(raws(t, files.Scan, "collector.test"), "\n")
	for _, want := range []string{
		`node=collector.test type=DAEMON_START msg=audit\(\d+\.\d{3}:\d+\): op=start ver=test format=raw kernel=\S+ auid=\d+ pid=\d+ uid=\d+ ses=\d+ res=success`,
		`type=DAEMON_ACCEPT msg=audit\(\d+\.\d{3}:\d+\): addr=127.0.0.1 port=\d+ res=success`,
		`type=DAEMON_CLOSE msg=audit\(\d+\.\d{3}:\d+\): addr=127.0.0.1 port=\d+ res=success`,
		`type=DAEMON_END msg=audit\(\d+\.\d{3}:\d+\): op=terminate auid=\d+ uid=\d+ ses=\d+ pid=\d+ res=success`,
	} {
		if !regexp.MustCompile(want).MatchString(own) {
			t.Errorf("the collector's own records lack %s:\n%s", want, own)
		}
	}
	if want := []string{"STATUS=opening the store", "EXTEND_TIMEOUT_USEC=60000000", "READY=1\nSTATUS=receiving on " + r.Addrs()[0].String(), "STOPPING=1"}; !slices.Equal(*r.notes, want) {
		t.Errorf("the service manager was told %q, want %q", *r.notes, want)
	}
}

// A second collector goes on where the first ended, and one that was interrupted
// has lost nothing that was acknowledged.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	r := start(t, testConfig(dir))
	exchange(t, r.dial(), 1, userRecord("web1", 1))
	r.stop()
	r = start(t, testConfig(dir))
	exchange(t, r.dial(), 2, userRecord("web1", 2))
	client := r.client()
	want := []string{userRecord("web1", 1), userRecord("web1", 2)}
	eventually(t, "both are found", func() bool { return cmp.Equal(want, raws(t, scanner(client), "web1")) })
}

func TestRefusalsAreStored(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(shortDir(t)))
	first := r.dial()
	exchange(t, first, 1, userRecord("web1", 1))
	second := r.dial()
	if n, err := second.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("the second connection got %d bytes, %v", n, err)
	}
	want := fmt.Sprintf("op=dup addr=127.0.0.1 port=%d res=no", second.LocalAddr().(*net.TCPAddr).Port)
	client := r.client()
	eventually(t, want, func() bool {
		return strings.Contains(strings.Join(raws(t, scanner(client), "collector.test"), "\n"), want)
	})
}

func TestUnparsableRecordIsStoredAndFound(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(shortDir(t)))
	odd := []string{"no header at all", "node=web1 type=LOGIN msg=audit(: broken"}
	exchange(t, r.dial(), 1, odd...)
	client := r.client()
	for i, node := range []string{"127.0.0.1", "web1"} {
		eventually(t, odd[i], func() bool { return slices.Contains(raws(t, scanner(client), node), odd[i]) })
	}
}

func get(t *testing.T, r *running, path string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + r.HTTPAddr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// What is served on HTTP takes further pages by their paths.
func TestPages(t *testing.T) {
	t.Parallel()
	cfg := testConfig(shortDir(t))
	cfg.Pages = map[string]http.Handler{"GET /page/": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "page of ", r.URL.Path) })}
	r := start(t, cfg)
	for path, want := range map[string]string{"/page/web1": "page of /page/web1", "/healthz": "ok\n"} {
		if code, body := get(t, r, path); code != 200 || body != want {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(shortDir(t)))
	exchange(t, r.dial(), 1, userRecord("web1", 1), userRecord("web1", 2))
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := get(t, r, path); code != 200 || body != "ok\n" {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	eventually(t, "the host's records are counted", func() bool {
		_, body := get(t, r, "/metrics")
		return strings.Contains(body, `auditfleet_host_records_total{host="web1"} 2`)
	})
	_, body := get(t, r, "/metrics")
	for _, want := range []string{
		"auditfleet_collector_records_total 2", "auditfleet_collector_connections 1",
		`auditfleet_collector_refused_total{reason="dup"} 0`, "auditfleet_collector_ack_seconds_count 1",
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

// Every metric is documented, with its help text and labels, and nothing is
// documented that is not there.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	cfg := testConfig(shortDir(t))
	cfg.Plugins = Plugins{Settings: dispatch.Settings{Depth: 100}, List: []conf.Plugin{plugin(t, "cat", conf.FormatString, "cat >/dev/null")}}
	sinks := t.TempDir()
	for name, text := range map[string]string{"ops.conf": "type = webhook\nurl = http://127.0.0.1:1\nsecret_file = " + filepath.Join(sinks, "secret") + "\n", "secret": strings.Repeat("s3cret", 8) + "\n"} {
		if err := os.WriteFile(filepath.Join(sinks, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if cfg.Sinks = sink.Load(sinks, sink.Names{}); cfg.Sinks.Problem != nil {
		t.Fatal(cfg.Sinks.Problem)
	}
	r := start(t, cfg)
	eventually(t, "the collector's own host is known", func() bool { return len(r.head.Hosts()) > 0 })
	metricstest.Documented(t, r.reg, "auditfleet_collector_", "auditfleet_host_")
}

// A sender that takes no replies holds up a clean stop; a second signal ends it.
func TestSecondSignalInterrupts(t *testing.T) {
	t.Parallel()
	cfg := testConfig(shortDir(t))
	cfg.DrainTimeout = time.Hour
	r := start(t, cfg)
	c := r.dial()
	var beats []byte
	for i := range uint32(4096) {
		beats = remote.Append(beats, remote.Heartbeat, i, nil)
	}
	c.SetWriteDeadline(time.Now().Add(2 * time.Second))
	for { // until neither side's buffers take any more
		if _, err := c.Write(beats); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	r.stopIt()
	select {
	case err := <-r.done:
		t.Fatalf("the stop did not wait for the sender: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	r.hurry()
	select {
	case err := <-r.done:
		if !errors.Is(err, ErrInterrupted) {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("still waiting")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	r.done = nil
}

func TestBadStores(t *testing.T) {
	other := shortDir(t)
	if err := os.MkdirAll(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "thesis.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := shortDir(t)
	start(t, testConfig(newer)).stop()
	if err := os.WriteFile(filepath.Join(newer, "VERSION"), []byte("auditfleet store 99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := shortDir(t)
	if err := os.WriteFile(file, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		dir  string
		is   error
		says []string
	}{
		"not ours": {other, store.ErrNotOurs, []string{other, "thesis.txt", "empty folder"}},
		"newer":    {newer, store.ErrVersion, []string{newer, "99", "newer"}},
		"a file":   {file, syscall.ENOTDIR, []string{file}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(testConfig(tc.dir))
			if !errors.Is(err, tc.is) {
				t.Fatalf("Open: %v", err)
			}
			for _, want := range tc.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if _, err := OpenReadOnly(tc.dir, hclog.NewNullLogger()); !errors.Is(err, tc.is) {
				t.Errorf("OpenReadOnly: %v", err)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(other, "thesis.txt")); err != nil {
		t.Error(err)
	}
}

func TestStoreInUse(t *testing.T) {
	r := start(t, testConfig(shortDir(t)))
	_, err := Open(testConfig(r.dir))
	if !errors.Is(err, store.ErrInUse) {
		t.Fatalf("a second collector on the store: %v", err)
	}
	for _, want := range []string{r.dir, fmt.Sprint(os.Getpid()), "stop"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	exchange(t, r.dial(), 1, userRecord("web1", 1)) // the first one goes on
}

func TestMissingStoreIsNotMadeByAQuery(t *testing.T) {
	dir := shortDir(t)
	_, err := OpenReadOnly(dir, hclog.NewNullLogger())
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "--store") || !strings.Contains(err.Error(), dir) {
		t.Errorf("OpenReadOnly: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is there now: %v", err)
	}
}

// A failed Open has let go of everything: the same store and ports open again.
func TestFailedOpenReleases(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"listen": func(c *Config) { c.Listen = []string{"127.0.0.1:0", held.Addr().String()} },
		"http":   func(c *Config) { c.HTTP = held.Addr().String() },
		"group":  func(c *Config) { c.APIGroup = "no-such-group" },
		"socket": func(c *Config) { c.API = filepath.Join(dir, strings.Repeat("x", 120)) },
	} {
		cfg := testConfig(dir)
		change(&cfg)
		_, err := Open(cfg)
		if err == nil {
			t.Fatalf("%s: Open succeeded", name)
		}
		want := map[string]string{"listen": held.Addr().String(), "http": held.Addr().String(), "group": "no-such-group", "socket": "--api"}[name]
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q does not say %q", name, err, want)
		}
	}
	held.Close()
	start(t, testConfig(dir))
}

func TestSocketLeftBehind(t *testing.T) {
	t.Parallel()
	cfg := testConfig(shortDir(t))
	cfg.API = filepath.Join(filepath.Dir(cfg.Store), "api.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: cfg.API, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "already answers") {
		t.Errorf("Open on a socket in use: %v", err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	// A process that another test starts at this moment has the socket, too, until it is another program.
	need.Wait(t, "the socket answers nobody", func() bool {
		c, err := net.Dial("unix", cfg.API)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	r := start(t, cfg)
	info, err := os.Stat(cfg.API)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode: %v, %v", info.Mode(), err)
	}
	r.stop()
	if err := os.WriteFile(cfg.API, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("Open on a file: %v", err)
	}
}
