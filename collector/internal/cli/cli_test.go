package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/proto/remote"
)

func TestMain(m *testing.M) {
	run := func() { os.Exit(Run(context.Background(), "v-test", os.Args, Stdio{os.Stdin, os.Stdout, os.Stderr})) }
	testscript.Main(leakChecked{m}, map[string]func(){
		"collector": run,
		"ausearch":  run,
		"aureport":  run,
		"aulast":    run,
		"aulastlog": run,
		"send":      func() { os.Exit(send(os.Args[1:])) },
	})
}

// leakChecked runs the tests and then looks for goroutines left behind.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	// For answers that are compared with others. Scripts have an environment of their own.
	os.Setenv("AUDITFLEET_COVERAGE_NOTE", "off")
	need.Parallel(4) // they wait for other processes
	code := l.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// send ADDRFILE RECORD... sends records and prints the replies, one a line.
func send(args []string) int {
	addr, err := os.ReadFile(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	c, err := net.Dial("tcp", strings.TrimSpace(string(addr)))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer c.Close()
	var out []byte
	for i, rec := range args[1:] {
		out = remote.Append(out, remote.Message, uint32(i+1), []byte(rec))
	}
	if _, err := c.Write(out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	got := make([]byte, remote.HeaderSize*(len(args)-1))
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(c, got); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var dec remote.Decoder
	for len(got) > 0 {
		f, n, err := dec.Decode(got)
		if err != nil || n == 0 {
			fmt.Fprintln(os.Stderr, "reply:", err)
			return 1
		}
		fmt.Println(f.Type, f.Seq)
		got = got[n:]
	}
	return 0
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "UTC")
			// Sockets have short paths; the scripts' folder may have a long one.
			dir, err := os.MkdirTemp("", "af")
			env.Defer(func() { os.RemoveAll(dir) })
			env.Setenv("SHORT", dir)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"await": await, "recorded": recorded},
	})
}

// recorded REGEXP waits until exactly one record that the collector hub, with the store st, has of
// what was asked matches.
func recorded(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: recorded REGEXP")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) { // each is a record, of which so many a minute are stored
		ts.Check(ts.Exec("collector", "search", "--store", ts.Getenv("SHORT")+"/st", "-n", "hub", "-m", "USER_CMD", "-i"))
		text := ts.ReadFile("stdout")
		switch n := len(re.FindAllString(text, -1)); {
		case n == 1:
			return
		case n > 1 || time.Now().After(end):
			ts.Fatalf("%d records match %s:\n%s", n, args[0], text[max(0, len(text)-3000):])
		}
	}
}

// await FILE TEXT waits until a log has the text. With `await FILE addr NAME`,
// the address after NAME= in the line that says ready goes to the file addr.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await FILE TEXT [KEY OUT]")
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		text, _ := os.ReadFile(ts.MkAbs(args[0]))
		if i := bytes.Index(text, []byte(args[1])); i >= 0 && bytes.IndexByte(text[i:], '\n') >= 0 {
			if len(args) == 4 {
				_, after, _ := strings.Cut(string(text[i:]), args[2]+"=")
				ts.Check(os.WriteFile(ts.MkAbs(args[3]), []byte(strings.Fields(after)[0]), 0o600))
			}
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s never says %q:\n%s", args[0], args[1], text)
		}
	}
}

// Each key of the file has the effect of its flag, and a flag goes before it.
func TestFileAndFlags(t *testing.T) {
	const text = `# the stock keys
tcp_listen_port = 6060
tcp_listen_queue = 7
tcp_max_per_addr = 3
tcp_client_ports = 1024-2048
tcp_client_max_idle = 90
flush = INCREMENTAL
freq = 20
name_format = USER
name = hub
end_of_event_timeout = 5
log_format = ENRICHED
# ours
store = /srv/audit
api = /run/c.sock
http =
max_connections = 77
frame_timeout = 5s
drain_timeout = 2m
max_in_flight = 64K
max_in_flight_total = 8M
max_open_bytes_per_host = 1M
max_open_bytes = 2M
max_open_events_per_host = 99
hosts_file = /etc/auditfleet/hosts
disk_reserve = 0
space_left = 5%
admin_space_left = 100
space_left_action = ROTATE
admin_space_left_action = suspend
disk_full_action = syslog
disk_error_action = ignore
action_mail_acct = ops@example.org
max_days = 30
max_bytes = 2T
state_file = /run/c.state
distribute_network = yes
plugin_dir = /none/plugins.d
q_depth = 900
overflow_action = suspend
max_restarts = 3
proxy_protocol_from = 127.0.0.1 10.1.0.0/16
max_hosts = 12
metric_hosts = 13
log_level = debug
`
	load := func(args ...string) server.Config {
		t.Helper()
		o, _, err := configured(t, text, args...)
		if err != nil {
			t.Fatal(err)
		}
		return o.server
	}
	cfg := load()
	got := fmt.Sprintf("%v %d %+v %s %d %s %q %q %s %v %d %d %d %v %s", cfg.Listen, cfg.Backlog, cfg.Limits, cfg.Flush, cfg.Freq, cfg.Store,
		cfg.API, cfg.HTTP, cfg.Node, cfg.EventTimeout, cfg.MaxInFlight, cfg.MaxHosts, cfg.MetricHosts, cfg.DrainTimeout, cfg.LogLevel)
	want := `[:6060] 7 {MaxPerAddr:3 MinPort:1024 MaxPort:2048 MaxIdle:1m30s Trusts:<nil> Proxy:<nil> MaxConns:77 FrameTimeout:5s} incremental 20 /srv/audit "/run/c.sock" "" hub 5s 65536 12 13 2m0s debug`
	if got != want {
		t.Errorf("from the file:\n got %s\nwant %s", got, want)
	}
	got = fmt.Sprintf("%d %d %d %d %s %+v %+v %s %v %s", cfg.MaxTotal, cfg.OpenPerHost, cfg.OpenTotal, cfg.OpenEvents, cfg.HostsFile, cfg.Space, cfg.Retention, cfg.Action.MailTo, cfg.Action.AllowHalt, cfg.StateFile)
	want = `8388608 1048576 2097152 99 /etc/auditfleet/hosts {Reserve:-1 SpaceLeft:5% SpaceLeftAction:rotate AdminSpaceLeft:100 AdminSpaceLeftAction:suspend DiskFullAction:syslog DiskErrorAction:ignore} {MaxDays:30 MaxBytes:2199023255552 Rules:[]} ops@example.org false /run/c.state`
	if got != want {
		t.Errorf("from the file:\n got %s\nwant %s", got, want)
	}
	if p := cfg.Plugins; p.Settings != (dispatch.Settings{Depth: 900, Overflow: conf.DoSuspend, MaxRestarts: 3}) || len(p.List) > 0 || !errors.Is(p.Problem, os.ErrNotExist) {
		t.Errorf("plugins from the file: %+v", p)
	}
	if got := fmt.Sprint(cfg.Proxies, load("--proxy-protocol-from", "::1").Proxies, load("--proxy-protocol-from", "").Proxies); got != "[127.0.0.1/32 10.1.0.0/16] [::1/128] []" {
		t.Errorf("proxies: %s", got)
	}
	cfg = load("--disk-reserve", "1G", "--max-days", "7", "--max-bytes", "5G", "--max-in-flight-total", "2M", "--max-open-bytes", "3M",
		"--max-open-bytes-per-host", "32K", "--allow-halt", "--max-open-events-per-host", "5", "--hosts-file", "/h")
	got = fmt.Sprintf("%d %d %d %d %s %d %+v %v", cfg.MaxTotal, cfg.OpenPerHost, cfg.OpenTotal, cfg.OpenEvents, cfg.HostsFile, cfg.Space.Reserve, cfg.Retention, cfg.Action.AllowHalt)
	want = `2097152 32768 3145728 5 /h 1073741824 {MaxDays:7 MaxBytes:5368709120 Rules:[]} true`
	if got != want {
		t.Errorf("with flags:\n got %s\nwant %s", got, want)
	}
	cfg = load("--listen", "127.0.0.1:1,127.0.0.1:2", "--tcp-max-per-addr", "9", "--tcp-client-ports", "5", "--tcp-client-max-idle", "0",
		"--flush", "none", "--store", "/other", "--http", "127.0.0.1:9", "--node", "n", "--max-connections", "8", "--frame-timeout", "1s", "--tcp-listen-queue", "2")
	got = fmt.Sprintf("%v %d %+v %s %s %q %s", cfg.Listen, cfg.Backlog, cfg.Limits, cfg.Flush, cfg.Store, cfg.HTTP, cfg.Node)
	want = `[127.0.0.1:1 127.0.0.1:2] 2 {MaxPerAddr:9 MinPort:5 MaxPort:5 MaxIdle:0s Trusts:<nil> Proxy:<nil> MaxConns:8 FrameTimeout:1s} none /other "127.0.0.1:9" n`
	if got != want {
		t.Errorf("with flags:\n got %s\nwant %s", got, want)
	}
	// A wrong value is wrong also where a flag goes before it.
	var list conf.Errors
	if _, _, err := configured(t, "tcp_max_per_addr = many\n", "--tcp-max-per-addr", "9"); !errors.As(err, &list) || !strings.Contains(err.Error(), ".conf:1: ") {
		t.Errorf("a wrong value behind a flag: %v", err)
	}
}

// What the shipped example sets is the default, and what is commented out there is right.
func TestShippedExample(t *testing.T) {
	text, err := os.ReadFile("../../../deploy/collector.conf")
	if err != nil {
		t.Fatal(err)
	}
	load := func(text string) server.Config {
		t.Helper()
		o, f, err := configured(t, text)
		if err != nil {
			t.Fatal(err)
		}
		if idle := o.table().Idle(f); len(f.Warnings) > 0 || len(idle) > 0 {
			t.Errorf("warnings %v, keys without effect %v", f.Warnings, idle)
		}
		return o.server
	}
	want := load("tcp_client_max_idle = 120\n")
	ignore := cmpopts.IgnoreUnexported(server.Config{}, action.Config{})
	if diff := cmp.Diff(want, load(string(text)), ignore); diff != "" {
		t.Errorf("what it sets differs from the defaults (-default +file):\n%s", diff)
	}
	load(regexp.MustCompile(`(?m)^#([a-z_]+ = )`).ReplaceAllString(string(text), "$1"))
}

// One file may serve a host's daemon, too: the forwarder's own keys are checked,
// and named as having no effect, and it knows all of ours.
func TestFileSharedWithAForwarder(t *testing.T) {
	o, f, err := configured(t, "log_file = /var/log/audit/audit.log\nlog_compress = zstd\nrotated_names = dated\nmax_days = 3\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"log_file", "log_compress", "rotated_names"}, o.table().Idle(f)); diff != "" {
		t.Errorf("keys without effect: %s", diff)
	}
	if _, _, err := configured(t, "log_compress = gzip\n"); err == nil || !strings.Contains(err.Error(), ":1: ") {
		t.Errorf("a wrong value: %v", err)
	}
	var a conf.Auditd
	for _, name := range conf.CollectorKeys {
		a.HostSchema().Key(name) // panics where there is none
	}
}
