package integration

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// noRestart is the exit statuses after which the program's unit does not start it again.
func noRestart(t *testing.T, program string) (list []int) {
	t.Helper()
	for line := range strings.Lines(unit(t, program)) {
		words, ok := strings.CutPrefix(strings.TrimSpace(line), "RestartPreventExitStatus=")
		if !ok {
			continue
		}
		for _, word := range strings.Fields(words) {
			n, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, n)
		}
	}
	return list
}

// refusal is a start that must fail: of words and files, %d standing for their folder.
type refusal struct {
	name  string
	files map[string]string
	args  []string
	says  string
}

// start runs a program to its end and returns its exit status and what it said.
func (r *refusal) start(t *testing.T, program string) (int, string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range r.files {
		mode := os.FileMode(0o640)
		if strings.HasPrefix(name, "open") {
			mode = 0o666
		}
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(strings.ReplaceAll(text, "%d", dir)), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	args := slices.Clone(r.args)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "%d", dir)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = strings.NewReader("")
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		t.Fatalf("it was started: %v\n%s", err, out)
	}
	return ended.ExitCode(), string(out)
}

// Whatever file of a configuration is refused, the program ends with a status after which its unit
// leaves it: a machine that needs more than two seconds for a start would try for ever.
func TestRefusedConfiguration(t *testing.T) {
	t.Parallel()
	need.Root(t) // whose the files must be
	bins := binaries(t)
	options := []string{"--options", "%d/forwarder.conf"}
	// What the forwarder's file has when another one is what is wrong; stdin, for no test is to be the host's daemon.
	const good = "source = stdin\nspool = %d/spool\nreport = %d/report\n"
	serve := []string{"serve", "--config", "%d/collector.conf", "--store", "%d/store"}
	const quiet = "listen = 127.0.0.1:0\nhttp =\n"
	for program, list := range map[string][]refusal{
		"forwarder": {
			{"forwarder.conf, a key", map[string]string{"forwarder.conf": "spol = x\n"}, options, "forwarder.conf:1: "},
			{"forwarder.conf, a value", map[string]string{"forwarder.conf": good + "window = 0\nremote = a\n"}, options, "forwarder.conf:4: "},
			{"forwarder.conf is not there", nil, options, "forwarder.conf: no such file"},
			{"forwarder.conf that everybody may write", map[string]string{"open.conf": good}, []string{"--options", "%d/open.conf"}, "world-writable"},
			{"forwarder.conf, two keys", map[string]string{"forwarder.conf": good}, options, "remote"},
			{"auditd.conf, a key", map[string]string{"forwarder.conf": good + "remote = a\nconfig = %d/auditd.conf\n", "auditd.conf": "nmu_logs = 5\n"}, options, "auditd.conf:1: "},
			{"auditd.conf, a value", map[string]string{"forwarder.conf": good + "remote = a\nconfig = %d/auditd.conf\n", "auditd.conf": "log_format = RAW\nflush = often\n"}, options, "auditd.conf:2: "},
			{"auditd.conf, two values", map[string]string{"forwarder.conf": good + "remote = a\nconfig = %d/auditd.conf\n", "auditd.conf": "space_left = 5\nadmin_space_left = 9\n"}, options, "admin_space_left"},
			{"auditd.conf is not there", map[string]string{"forwarder.conf": good + "remote = a\nconfig = %d/auditd.conf\n"}, options, "auditd.conf: no such file"},
			{"auditd.conf, an action that cannot be done", map[string]string{"forwarder.conf": good + "log_file = %d/audit.log\nconfig = %d/auditd.conf\n", "auditd.conf": "disk_full_action = exec %d/none\n"}, options, "auditd.conf:1: "},
			{"auditd.conf, a name", map[string]string{"forwarder.conf": good + "remote = a\nconfig = %d/auditd.conf\n", "auditd.conf": "name_format = user\n"}, options, "name"},
			{"auditd.conf under the stock name", map[string]string{"auditd.conf": "nmu_logs = 5\n"}, []string{"auditd", "-c", "%d"}, "auditd.conf:1: "},
			{"a server's auditd.conf", map[string]string{"auditd.conf": "tcp_listen_port = 60\n"}, []string{"--config", "%d/auditd.conf", "--check"}, "auditd.conf:1: "},
			{"audisp-remote.conf, a key", map[string]string{"forwarder.conf": good + "remote_config = %d/r.conf\n", "r.conf": "remote_sever = a\n"}, options, "r.conf:1: "},
			{"audisp-remote.conf without a server", map[string]string{"forwarder.conf": good + "remote_config = %d/r.conf\n", "r.conf": "mode = immediate\n"}, options, "remote_server"},
			{"audisp-remote.conf, a server", map[string]string{"forwarder.conf": good + "remote_config = %d/r.conf\n", "r.conf": "remote_server = a:b:c\n"}, options, "r.conf:1: "},
			{"audisp-remote.conf, TLS without a key", map[string]string{"forwarder.conf": good + "remote_config = %d/r.conf\n", "r.conf": "remote_server = a\ntransport = tls\n"}, options, "tls_psk_file"},
			{"audisp-remote.conf is not there", map[string]string{"forwarder.conf": good + "remote_config = %d/r.conf\n"}, options, "r.conf: no such file"},
			{"a certificate that is not there", map[string]string{"forwarder.conf": good + "remote = a\ntransport = grpc\ntls_ca = %d/ca\ntls_cert = %d/cert\ntls_key = %d/key\n"}, options, "/ca is not there"},
			{"an address", map[string]string{"forwarder.conf": good + "remote = a\nhttp = nowhere\n"}, options, "forwarder.conf:5: "},
			{"a plugin, asked for", map[string]string{"auditd.conf": "plugin_dir = %d\n", "p.conf": "active = yes\npath = none\n"}, []string{"--check", "--config", "%d/auditd.conf"}, "p.conf:2: "},
			{"the command line", nil, []string{"--source", "stdin"}, "--remote"},
		},
		"collector": {
			{"a key", map[string]string{"collector.conf": "lsten = :60\n"}, serve, "collector.conf:1: "},
			{"a value", map[string]string{"collector.conf": quiet + "max_bytes = lots\n"}, serve, "collector.conf:3: "},
			{"it is not there", nil, serve, "collector.conf: no such file"},
			{"an address", map[string]string{"collector.conf": "listen = nowhere\nhttp =\n"}, serve, "collector.conf:1: "},
			{"a port", map[string]string{"collector.conf": "listen = 127.0.0.1:sixty\nhttp =\n"}, serve, "collector.conf:1: "},
			{"another port", map[string]string{"collector.conf": "listen = 127.0.0.1:0\nhttp = 127.0.0.1:99999\n"}, serve, "collector.conf:2: "},
			{"a file that it names", map[string]string{"collector.conf": quiet + "hosts_file = /nonexistent/hosts\n"}, serve, "collector.conf:3: "},
			{"a group", map[string]string{"collector.conf": quiet + "api_group = nobody-has-it\n"}, serve, "collector.conf:3: "},
			{"an action", map[string]string{"collector.conf": quiet + "disk_full_action = halt\n"}, serve, "--allow-halt"},
			{"a certificate", map[string]string{"collector.conf": quiet + "listen_tls = 127.0.0.1:0\ntls_ca = /nonexistent/ca.crt\ntls_cert = /nonexistent/c.crt\ntls_key = /nonexistent/c.key\n"}, serve, "collector.conf:4: "},
			{"two keys", map[string]string{"collector.conf": "listen = 127.0.0.1:0\nhttp =\nlisten_tls = 127.0.0.1:0\n"}, serve, "tls"},
			{"asked for", map[string]string{"collector.conf": quiet + "hosts_file = /nonexistent/hosts\n"}, append(slices.Clone(serve), "--check"), "collector.conf:3: "},
			{"a flag", map[string]string{"collector.conf": quiet}, append(slices.Clone(serve), "--flush", "later"), "--flush"},
			{"a flag that is not there", nil, append(slices.Clone(serve), "--flsh"), "--flsh"},
		},
	} {
		wants, path := noRestart(t, program), map[string]string{"forwarder": bins.Forwarder, "collector": bins.Collector}[program]
		for _, r := range list {
			t.Run(program+": "+r.name, func(t *testing.T) {
				t.Parallel()
				as := path
				if len(r.args) > 0 && r.args[0] == "auditd" {
					as = filepath.Join(t.TempDir(), "auditd")
					if err := os.Symlink(path, as); err != nil {
						t.Fatal(err)
					}
					r.args = r.args[1:]
				}
				code, said := r.start(t, as)
				if !slices.Contains(wants, code) || !strings.Contains(said, r.says) {
					t.Errorf("exit status %d, want one of %v and %q:\n%s", code, wants, r.says, said)
				}
			})
		}
	}
	// What may be better soon is tried again.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for path, args := range map[string][]string{
		bins.Forwarder: {"--source", "stdin", "--remote", "127.0.0.1:1", "--spool", "/dev/null/spool", "--report", "/dev/null/report"},
		bins.Collector: {"serve", "--store", "%d/store", "--http", "", "--listen", taken.Addr().String()},
	} {
		r := refusal{args: args}
		if code, said := r.start(t, path); code != 1 || !strings.Contains(said, "address already in use") && !strings.Contains(said, "not a directory") {
			t.Errorf("%s: exit status %d where a port is in use, or a folder is none:\n%s", filepath.Base(path), code, said)
		}
	}
	// Rules that are refused end nothing: they are loaded once the daemon is registered.
	if text := unit(t, "forwarder"); !strings.Contains(text, "\nExecStartPost=-/") || !strings.Contains(text, "\nExecStartPre=-/") {
		t.Error("the forwarder's unit fails where rules are refused")
	}
}
