package cli

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/auditfleet/auditfleet/forwarder/internal/agent"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/kerneltest"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	audisp "github.com/auditfleet/auditfleet/forwarder/internal/ship/remote"
	"github.com/auditfleet/auditfleet/forwarder/internal/trace"
	"github.com/auditfleet/auditfleet/internal/golden"
	"github.com/auditfleet/auditfleet/proto/remote"
)

func runCommand() {
	os.Exit(Run(context.Background(), os.Args, Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, "v-test"))
}

func TestMain(m *testing.M) {
	kerneltest.Child()
	if code, ok := trace.Helper(os.Args); ok {
		os.Exit(code)
	}
	testscript.Main(m, map[string]func(){
		"forwarder": runCommand, "auditd": runCommand, "audisp-remote": runCommand, "augenrules": runCommand, "autrace": runCommand, "auditctl": runCommand, "ausearch": runCommand, "aureport": runCommand, "aulast": runCommand, "aulastlog": runCommand, "ausyscall": runCommand,
		"sink": sink,
	})
}

// sink is a collector for scripts: sink ADDRFILE OUT N listens, writes its
// address, acknowledges and ends after N records.
func sink() {
	n, err := strconv.Atoi(os.Args[3])
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fail(err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	fail(err)
	fail(os.WriteFile(os.Args[1]+".tmp", []byte(ln.Addr().String()), 0o600))
	fail(os.Rename(os.Args[1]+".tmp", os.Args[1]))
	out, err := os.Create(os.Args[2])
	fail(err)
	for n > 0 {
		conn, err := ln.Accept()
		fail(err)
		var dec remote.Decoder
		buf, have := make([]byte, 64<<10), 0
		for n > 0 {
			got, err := conn.Read(buf[have:])
			if err != nil {
				break
			}
			have += got
			used := 0
			var ack []byte
			for {
				f, size, err := dec.Decode(buf[used:have])
				fail(err)
				if size == 0 {
					break
				}
				used += size
				if f.Type == remote.Message {
					fmt.Fprintf(out, "%s\n", f.Payload)
					n--
				}
				ack = remote.Append(ack, remote.Ack, f.Seq, nil)
			}
			have = copy(buf, buf[used:have])
			_, err = conn.Write(ack)
			fail(err)
		}
	}
	fail(out.Close())
	time.Sleep(200 * time.Millisecond) // until the acknowledgements are read
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			// Stock files must belong to root or to us, and not be for everybody.
			return os.Chmod(e.WorkDir, 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// waitfile FILE VAR waits for a file and sets VAR to what it holds.
			"waitfile": func(ts *testscript.TestScript, _ bool, args []string) {
				for range 2000 {
					if b, err := os.ReadFile(ts.MkAbs(args[0])); err == nil {
						ts.Setenv(args[1], string(bytes.TrimSpace(b)))
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
				ts.Fatalf("%s does not come", args[0])
			},
		},
		RequireExplicitExec: true,
		UpdateScripts:       golden.Update(),
	})
}

func TestParseRemote(t *testing.T) {
	for in, want := range map[string]string{
		"a":                 "[a:60]",
		"a:70, b":           "[a:70 b:60]",
		"10.0.0.1:60":       "[10.0.0.1:60]",
		"[::1]:60,[fe80::]": "[[::1]:60 [fe80::]:60]",
		"::1":               "[[::1]:60]",
	} {
		got, err := parseRemote(in, 60)
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", ",", "a,", "a:", "a:0", "a:65536", "a:x", ":60", "a b:60", "a:60:60x"} {
		if got, err := parseRemote(in, 60); err == nil {
			t.Errorf("%q: taken as %v", in, got)
		}
	}
}

func TestResolveDefaults(t *testing.T) {
	o := newRunFlags()
	o.source, o.remote = agent.SourceMulticast, "c"
	cfg, err := o.resolve(t.Context(), givenAs("remote"), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Log.Path != "" || cfg.Ship == nil || cfg.Ship.Servers[0] != "c:60" || cfg.Spool.MaxBytes != 1<<30 || cfg.Spool.Dir != "/var/spool/auditfleet" ||
		cfg.Kernel.ReceiveBuffer != 64<<20 || cfg.Kernel.QueueBytes != 8<<20 || cfg.Kernel.Enable != kernel.Enable || cfg.Node != "" {
		t.Errorf("%+v", cfg)
	}
}

func TestResolveFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		return dir + "/" + name
	}
	o := newRunFlags()
	o.config = write("auditd.conf", "log_file = "+dir+"/log/a.log\nlog_format = RAW\nflush = DATA\nfreq = 7\nmax_log_file = 3\nnum_logs = 4\nmax_log_file_action = KEEP_LOGS\nname_format = USER\nname = db7\n")
	o.remoteConfig = write("r.conf", "remote_server = one,two:61\nport = 6000\nlocal_port = 611\nformat = ascii\nnetwork_retry_time = 3\n")
	cfg, err := o.resolve(t.Context(), givenAs("config", "remote-config"), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(cfg.Log.Path, cfg.Log.Flush == locallog.FlushData, cfg.Log.Freq, cfg.Log.MaxSize, cfg.Log.NumLogs, cfg.Log.Action == locallog.ActionKeepLogs, cfg.Node); got != fmt.Sprint(dir+"/log/a.log", true, 7, 3<<20, 4, true, "db7") {
		t.Errorf("the log: %s", got)
	}
	transport := cfg.Ship.Transport.(audisp.Transport)
	if got := fmt.Sprint(cfg.Ship.Servers, cfg.Ship.BackoffMin, transport.Format == audisp.ASCII, transport.LocalPort); got != "[one:6000 two:61] 3s true 611" {
		t.Errorf("shipping: %s", got)
	}
	// A flag wins over the file.
	o.node, o.remote, o.format, o.logFile = "web1", "three:62", "managed", "none"
	cfg, err = o.resolve(t.Context(), givenAs("config", "remote-config", "node", "remote"), hclog.NewNullLogger())
	if err != nil || cfg.Node != "web1" || fmt.Sprint(cfg.Ship.Servers) != "[three:62]" || cfg.Ship.Transport.(audisp.Transport).Format != audisp.Managed || cfg.Log.Path != "" {
		t.Errorf("%+v, %v", cfg, err)
	}
}

func TestStockNames(t *testing.T) {
	var out, errOut bytes.Buffer
	if code := Run(t.Context(), []string{"/usr/sbin/auditd", "-x"}, Stdio{Out: &out, Err: &errOut}, "v"); code != exitUsage || !bytes.HasPrefix(errOut.Bytes(), []byte("auditd: ")) {
		t.Errorf("auditd -x: %d, %s", code, errOut.String())
	}
	o := newRunFlags()
	if err := o.check(); err != nil {
		t.Errorf("the stock names' defaults: %v", err)
	}
}
