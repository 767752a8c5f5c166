package cli

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/forwarder/internal/agent"
	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	audisp "github.com/auditfleet/auditfleet/forwarder/internal/ship/remote"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/conf"
)

// Every key of audisp-remote.conf, as keysFile has those of auditd.conf; stock is
// audisp-remote 3.0.9.
const remoteKeysFile = "testdata/remote-keys.txt"

// remoteFile writes an audisp-remote.conf that is right but for the lines of a
// case.
func remoteFile(t *testing.T, lines string) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	path = dir + "/audisp-remote.conf"
	text := ""
	// Nothing listens at port 1: the stock sender tries it once and ends with its
	// input.
	for _, base := range []string{"remote_server = 127.0.0.1", "port = 1"} {
		key, _, _ := strings.Cut(base, " ")
		if !strings.Contains(strings.ToLower(" ; "+lines), " ; "+key+" =") {
			text += base + "\n"
		}
	}
	text += strings.ReplaceAll(strings.ReplaceAll(lines, "DIR", dir), " ; ", "\n") + "\n"
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return dir, path
}

// stockRemoteVerdict runs the stock sender with an empty input: it ends with 6
// when it does not take its configuration.
func stockRemoteVerdict(t *testing.T, program, lines string) string {
	_, path := remoteFile(t, lines)
	cmd := exec.Command("unshare", "-m", "sh", "-c", `mount --bind "$1" /etc/audit/audisp-remote.conf && exec "$2"`, "sh", path, program)
	cmd.Stdin = strings.NewReader("")
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }) // ended already
	defer timer.Stop()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %s", err, out)
	}
	switch code := cmd.ProcessState.ExitCode(); code {
	case 6:
		return "error"
	case 0, 1: // 1: it could not deliver
		return "ok"
	default:
		t.Errorf("%s: the stock sender ended with %d: %s", lines, code, out)
		return "?"
	}
}

func TestEveryKeyOfAudispRemoteConf(t *testing.T) {
	need.Root(t)
	need.Stock(t, "unshare")
	program := need.Stock(t, "audisp-remote")
	compareKeys(t, remoteKeysFile, func(t *testing.T, c keyCase) (g keyCase) {
		g = c
		g.stock = stockRemoteVerdict(t, program, c.lines)
		_, path := remoteFile(t, c.lines)
		_, err := resolveRemote(t, path, false)
		if g.ours = "ok"; err != nil {
			g.ours = "error"
			if !strings.Contains(err.Error(), path) {
				t.Errorf("the error does not say where: %v", err)
			}
		}
		return g
	})
}

func resolveRemote(t *testing.T, path string, allowHalt bool) (agent.Config, error) {
	t.Helper()
	o := newRunFlags()
	o.source, o.logFile, o.remoteConfig, o.allowHalt = agent.SourceStdin, "", path, allowHalt
	return o.resolve(t.Context(), givenAs("remote-config"), hclog.NewNullLogger())
}

// What the keys come to, in the sender's words.
func TestEffectOfRemoteKeys(t *testing.T) {
	base := func() (ship.Config, agent.RemoteActions) {
		warn := conf.Action{Do: conf.DoWarnOnce}
		return ship.Config{Servers: []string{"127.0.0.1:1"}, Probe: ship.DefaultProbe, Transport: audisp.Transport{}}, agent.RemoteActions{
			NetworkFailure: warn, DiskFull: warn, DiskError: warn, GenericError: warn, QueueError: warn,
			DiskLow: conf.Action{Do: conf.DoIgnore}, RemoteEnding: conf.Action{Do: conf.DoReconnect},
			GenericWarning: conf.Action{Do: conf.DoSyslog}, Overflow: conf.Action{Do: conf.DoSyslog},
			StartupFailure: conf.Action{Do: conf.DoWarnOnceContinue}, MaxTries: 3, MaxTime: 5 * time.Second,
		}
	}
	stop := conf.Action{Do: conf.DoStop}
	for lines, change := range map[string]func(*ship.Config, *agent.RemoteActions){
		"# nothing": func(*ship.Config, *agent.RemoteActions) {},
		"remote_server = a, b:61,[::1]:62 ; port = 7": func(c *ship.Config, _ *agent.RemoteActions) {
			c.Servers = []string{"a:7", "b:61", "[::1]:62"}
		},
		"local_port = 61":       func(c *ship.Config, _ *agent.RemoteActions) { c.Transport = audisp.Transport{LocalPort: 61} },
		"format = ascii":        func(c *ship.Config, _ *agent.RemoteActions) { c.Transport = audisp.Transport{Format: audisp.ASCII} },
		"heartbeat_timeout = 9": func(c *ship.Config, _ *agent.RemoteActions) { c.Heartbeat = 9 * time.Second },
		"network_retry_time = 4": func(c *ship.Config, _ *agent.RemoteActions) {
			c.BackoffMin, c.BackoffMax = 4*time.Second, 4*time.Second
		},
		"max_tries_per_record = 8": func(_ *ship.Config, a *agent.RemoteActions) { a.MaxTries = 8 },
		"max_time_per_record = 8": func(c *ship.Config, a *agent.RemoteActions) {
			a.MaxTime, c.ReplyTimeout, c.ConnectTimeout = 8*time.Second, 8*time.Second, 8*time.Second
		},
		"max_time_per_record = 100": func(c *ship.Config, a *agent.RemoteActions) {
			a.MaxTime, c.ReplyTimeout, c.ConnectTimeout = 100*time.Second, 100*time.Second, 10*time.Second
		},
		"network_failure_action = stop":   func(_ *ship.Config, a *agent.RemoteActions) { a.NetworkFailure = stop },
		"disk_low_action = stop":          func(_ *ship.Config, a *agent.RemoteActions) { a.DiskLow = stop },
		"disk_full_action = stop":         func(_ *ship.Config, a *agent.RemoteActions) { a.DiskFull = stop },
		"disk_error_action = stop":        func(_ *ship.Config, a *agent.RemoteActions) { a.DiskError = stop },
		"remote_ending_action = stop":     func(_ *ship.Config, a *agent.RemoteActions) { a.RemoteEnding = stop },
		"generic_error_action = stop":     func(_ *ship.Config, a *agent.RemoteActions) { a.GenericError = stop },
		"generic_warning_action = stop":   func(_ *ship.Config, a *agent.RemoteActions) { a.GenericWarning = stop },
		"queue_error_action = stop":       func(_ *ship.Config, a *agent.RemoteActions) { a.QueueError = stop },
		"overflow_action = suspend":       func(_ *ship.Config, a *agent.RemoteActions) { a.Overflow = conf.Action{Do: conf.DoSuspend} },
		"startup_failure_action = ignore": func(_ *ship.Config, a *agent.RemoteActions) { a.StartupFailure = conf.Action{Do: conf.DoIgnore} },
		"disk_full_action = exec /bin/true": func(_ *ship.Config, a *agent.RemoteActions) {
			a.DiskFull = conf.Action{Do: conf.DoExec, Exec: "/bin/true"}
		},
		"queue_depth = 1 ; queue_file = DIR/q": func(*ship.Config, *agent.RemoteActions) {},
		"mode = forward ; queue_file = DIR/q":  func(*ship.Config, *agent.RemoteActions) {},
		"transport = tcp ; krb5_principal = a": func(*ship.Config, *agent.RemoteActions) {},
		"enable_krb5 = no ; format = managed":  func(*ship.Config, *agent.RemoteActions) {},
		"network_failure_action = warn_once":   func(*ship.Config, *agent.RemoteActions) {},
		"generic_error_action = ignore ; port=2": func(c *ship.Config, a *agent.RemoteActions) {
			c.Servers, a.GenericError = []string{"127.0.0.1:2"}, conf.Action{Do: conf.DoIgnore}
		},
	} {
		_, path := remoteFile(t, lines)
		cfg, err := resolveRemote(t, path, false)
		if err != nil {
			t.Errorf("%s: %v", lines, err)
			continue
		}
		wantShip, wantActions := base()
		change(&wantShip, &wantActions)
		if diff := cmp.Diff(wantShip, *cfg.Ship, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().Type().Kind().String() == "func" }, cmp.Ignore())); diff != "" {
			t.Errorf("%s: %s", lines, diff)
		}
		if diff := cmp.Diff(wantActions, cfg.Remote); diff != "" {
			t.Errorf("%s: %s", lines, diff)
		}
	}
}

// single and halt need --allow-halt, at the start and when the file is read again.
func TestRemoteHaltNeedsPermission(t *testing.T) {
	for _, key := range []string{"network_failure_action", "disk_low_action", "disk_full_action", "disk_error_action", "remote_ending_action", "generic_error_action", "generic_warning_action", "queue_error_action", "overflow_action"} {
		for _, do := range []string{"single", "halt"} {
			_, path := remoteFile(t, key+" = "+do)
			_, err := resolveRemote(t, path, false)
			if err == nil || !strings.Contains(err.Error(), path+":3: "+key+" = "+do) || !strings.Contains(err.Error(), "--allow-halt") {
				t.Errorf("%s = %s: %v", key, do, err)
			}
			cfg, err := resolveRemote(t, path, true)
			if err != nil {
				t.Errorf("%s = %s, allowed: %v", key, do, err)
				continue
			}
			if !cfg.Actions.AllowHalt {
				t.Errorf("%s = %s: the permission does not reach the actions", key, do)
			}
			if err := os.WriteFile(path, []byte("remote_server = other\n"), 0o640); err != nil {
				t.Fatal(err)
			}
			next, err := cfg.Reload(t.Context())
			if err != nil || next.Ship == nil || next.Ship.Servers[0] != "other:60" {
				t.Errorf("read again: %+v, %v", next.Ship, err)
			}
		}
	}
}
