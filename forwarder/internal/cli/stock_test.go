package cli

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/kerneltest"
	"github.com/auditfleet/auditfleet/internal/need"
)

// A stock audit daemon runs us as its plugin, in both of its formats: what it
// writes to its own log goes out.
func TestUnderAStockDispatcher(t *testing.T) {
	auditd := need.Stock(t, "auditd")
	for _, format := range []string{"string", "binary"} {
		t.Run(format, func(t *testing.T) {
			ctl := kerneltest.Dial(t)
			w := kerneltest.Getppid(t, ctl)
			dir := t.TempDir()
			const events = 300
			bin := copySelf(t, dir, "forwarder")
			addr := startSink(t, dir, copySelf(t, dir, "sink"))
			plugins := filepath.Join(dir, "conf", "plugins.d")
			for _, d := range []string{"log", "conf/plugins.d", "run"} {
				if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			write := func(name, text string) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
					t.Fatal(err)
				}
			}
			write("conf/auditd.conf", fmt.Sprintf("log_file = %s/log/audit.log\nlog_format = RAW\nplugin_dir = %s\nq_depth = 20000\nspace_left = 2\nadmin_space_left = 1\nspace_left_action = IGNORE\nadmin_space_left_action = IGNORE\n", dir, plugins))
			write("remote.conf", "remote_server = "+addr+"\n")
			write("conf/plugins.d/af.conf", fmt.Sprintf("active = yes\ndirection = out\npath = %s\ntype = always\nargs = --remote-config=%s/remote.conf --source=stdin\nformat = %s\n", bin, dir, format))
			cmd := exec.Command("unshare", "-m", "sh", "-c", fmt.Sprintf("mount --bind %s/run /run && mkdir -p /run/spool && mount --bind /run/spool /var/spool && exec %s -n -c %s/conf", dir, auditd, dir))
			var said bytes.Buffer
			cmd.Stderr = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			stop := func() error {
				if cmd.Process == nil {
					return nil
				}
				err := need.EndStock(cmd)
				cmd.Process = nil
				return err
			}
			defer func() {
				stop()
				if t.Failed() {
					t.Logf("the stock daemon and we said:\n%s", said.String())
				}
			}()
			waitFor(t, "the stock daemon is registered", func() bool {
				s, err := ctl.Status()
				return err == nil && s.PID == uint32(cmd.Process.Pid)
			})
			w.Run(t, events)
			out := filepath.Join(dir, "out")
			count := func(path string) int {
				b, _ := os.ReadFile(path)
				return bytes.Count(b, []byte(`key="`+w.Key+`"`))
			}
			waitFor(t, "all events are in the stock log", func() bool { return count(dir+"/log/audit.log") >= events })
			waitFor(t, "all events are at the collector", func() bool { return count(out) >= events })
			if err := stop(); err != nil {
				t.Errorf("auditd: %v\n%s", err, said.String())
			}
			log, err := os.ReadFile(dir + "/log/audit.log")
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(log), string(got)) {
				t.Errorf("what arrived is not what stands in the stock log: %d and %d bytes\n%.300s\n%.300s", len(got), len(log), got, log)
			}
		})
	}
}

func copySelf(t *testing.T, dir, name string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := need.Program(path, b, 0o750); err != nil {
		t.Fatal(err)
	}
	return path
}

// startSink starts a collector that ends with the test: a stock daemon sends
// records of its own too, so that nobody knows how many there will be.
func startSink(t *testing.T, dir, bin string) (addr string) {
	t.Helper()
	cmd := exec.Command(bin, filepath.Join(dir, "addr"), filepath.Join(dir, "out"), fmt.Sprint(math.MaxInt32))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		cmd.Wait()
	})
	waitFor(t, "the collector listens", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "addr"))
		addr = string(b)
		return err == nil
	})
	return addr
}

var waitFor = need.Wait

// The stock options that concern the kernel are ours too.
func TestAuditdOptions(t *testing.T) {
	if _, err := kernel.ParseEnableMode("nochange"); err != nil {
		t.Error(err)
	}
	var out, errOut bytes.Buffer
	for _, args := range [][]string{{"-s", "maybe", "-n", "-f"}, {"-c", "/nonexistent"}} {
		errOut.Reset()
		if code := Run(t.Context(), append([]string{"auditd"}, args...), Stdio{Out: &out, Err: &errOut}, "v"); code == 0 {
			t.Errorf("auditd %q: taken", args)
		}
		if want := args[1]; !strings.Contains(errOut.String(), want) {
			t.Errorf("auditd %q says %q", args, errOut.String())
		}
	}
}
