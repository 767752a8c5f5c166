package cli

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/internal/golden"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/conf"
)

// Every key of auditd.conf with good, bad and edge values. Each line of
// testdata/auditd-keys.txt is lines of a file (apart by " ; "), the verdict of
// stock auditd 3.0.9 and ours; -update writes both columns again. A
// line whose verdicts differ says why in a fourth column, which is kept.
const keysFile = "testdata/auditd-keys.txt"

const keysFormat = "%-58s | %-6s | %-6s"

type keyCase struct{ lines, stock, ours, why string }

func readKeyCases(t *testing.T, file string) (cases []keyCase) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		cols := append(strings.SplitN(strings.TrimSuffix(line, "\n"), " | ", 4), "", "", "")
		for i := range cols {
			cols[i] = strings.TrimSpace(cols[i])
		}
		cases = append(cases, keyCase{cols[0], cols[1], cols[2], cols[3]})
	}
	return cases
}

// keyFile writes an auditd.conf that is right but for the lines of a case.
func keyFile(t *testing.T, dir, lines, extra string) {
	t.Helper()
	for _, d := range []string{"log", "plugins", "run", "conf"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	text := extra
	for _, base := range []string{"log_file = " + dir + "/log/audit.log", "plugin_dir = " + dir + "/plugins", "space_left = 3", "admin_space_left = 2"} {
		key, _, _ := strings.Cut(base, " ")
		if !strings.Contains(" ; "+lines, " ; "+key+" = ") {
			text += base + "\n"
		}
	}
	text += strings.ReplaceAll(strings.ReplaceAll(lines, "DIR", dir), " ; ", "\n") + "\n"
	if err := os.WriteFile(dir+"/conf/auditd.conf", []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

// stockVerdict starts the stock daemon without local events and sees whether it
// gets as far as its pid file.
func stockVerdict(t *testing.T, auditd, lines string) string {
	dir := t.TempDir()
	extra := ""
	if !strings.HasPrefix(lines, "local_events") {
		extra = "local_events = no\n"
	}
	keyFile(t, dir, lines, extra)
	cmd := exec.Command("unshare", "-m", "sh", "-c", fmt.Sprintf("mount --bind %s/run /run && exec %s -n -c %s/conf", dir, auditd, dir))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	failed := func(err error) string {
		if cmd.ProcessState.ExitCode() > 0 {
			return "error"
		}
		t.Errorf("%s: the stock daemon ended: %v, %s", lines, err, said.String())
		return "?"
	}
	verdict := ""
	for deadline := time.Now().Add(time.Minute); verdict == ""; {
		select {
		case err := <-ended:
			return failed(err)
		case <-time.After(5 * time.Millisecond):
			if _, err := os.Stat(dir + "/run/auditd.pid"); err == nil {
				verdict = "ok"
			} else if time.Now().After(deadline) {
				verdict = "?"
			}
		}
	}
	// Some things are looked at after the pid file was written: it runs once it has
	// said so in its log, or, without one, has not ended for a while.
	for deadline := time.Now().Add(2 * time.Second); verdict == "ok" && time.Now().Before(deadline) && !saysStart(dir+"/log"); {
		select {
		case err := <-ended:
			return failed(err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-ended
	return verdict
}

func saysStart(dir string) bool {
	logs, err := filepath.Glob(dir + "/*.log")
	if err != nil {
		return false
	}
	for _, l := range logs {
		if b, err := os.ReadFile(l); err == nil && bytes.Contains(b, []byte("DAEMON_START")) {
			return true
		}
	}
	return false
}

func ourVerdict(t *testing.T, lines string) (string, error) {
	dir := t.TempDir()
	keyFile(t, dir, lines, "")
	o := newRunFlags()
	o.config = dir + "/conf/auditd.conf"
	cfg, err := o.resolve(t.Context(), givenAs("config"), hclog.NewNullLogger())
	if err == nil && cfg.Log.Path != "" {
		// What is wrong with the file's place shows when it is opened.
		var log *locallog.Log
		if log, err = locallog.Open(cfg.Log); err == nil {
			err = log.Close()
		}
	}
	if err != nil {
		return "error", err
	}
	return "ok", nil
}

func TestEveryKeyOfAuditdConf(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: real programs, one after the other, for some ten seconds")
	}
	need.Root(t)
	auditd := need.Stock(t, "auditd")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)
	ln.Close()
	compareKeys(t, keysFile, func(t *testing.T, c keyCase) (g keyCase) {
		g = c
		lines := strings.ReplaceAll(c.lines, "PORT", port)
		// With local events it would register with the kernel.
		if strings.EqualFold(c.lines, "local_events = yes") {
			g.stock = "ok"
		} else {
			g.stock = stockVerdict(t, auditd, lines)
		}
		var err error
		g.ours, err = ourVerdict(t, lines)
		if g.ours == "error" && !strings.Contains(err.Error(), "auditd.conf") && !strings.Contains(err.Error(), "log") {
			t.Errorf("the error does not say where: %v", err)
		}
		return g
	})
}

// compareKeys compares both verdicts of each case in a file with what it says.
func compareKeys(t *testing.T, file string, judge func(*testing.T, keyCase) keyCase) {
	t.Helper()
	cases := readKeyCases(t, file)
	got := slices.Clone(cases)
	asked := make([]int, len(cases))
	for i := range cases {
		asked[i] = i
	}
	if !golden.Update() {
		asked = need.Some(asked, 30)
	}
	t.Run("all", func(t *testing.T) {
		for _, i := range asked {
			c := cases[i]
			t.Run(c.lines, func(t *testing.T) {
				t.Parallel()
				got[i] = judge(t, c)
				if g := got[i]; g.ours != g.stock && g.why == "" && !golden.Update() {
					t.Errorf("stock says %s, we say %s and it is not said why", g.stock, g.ours)
				}
			})
		}
	})
	var out strings.Builder
	for _, g := range got {
		line := fmt.Sprintf(keysFormat, g.lines, g.stock, g.ours)
		if g.why != "" {
			line += " | " + g.why
		}
		out.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	golden.Compare(t, file, out.String())
}

// No key is left out of the tables: each has a value we take and one we refuse.
// That of keys that have no effect is refused nowhere.
func TestTablesHaveEveryKey(t *testing.T) {
	var a conf.Auditd
	var r conf.Remote
	for _, c := range []struct {
		file   string
		schema conf.Schema
	}{{keysFile, append(a.Schema(), a.OwnHostKeys()...)}, {remoteKeysFile, r.Schema()}} {
		verdicts := map[string]string{}
		for _, k := range readKeyCases(t, c.file) {
			for line := range strings.SplitSeq(k.lines, " ; ") {
				name, _, _ := strings.Cut(line, " ")
				verdicts[name] += k.ours + " "
			}
		}
		for _, k := range c.schema {
			takes := strings.Contains(verdicts[k.Name], "ok") || k.Name == "tcp_listen_port" // with any port it makes a server
			if k.Set != nil && (!takes || !strings.Contains(verdicts[k.Name], "error")) {
				t.Errorf("%s: %s has %q, want ok and error", c.file, k.Name, verdicts[k.Name])
			}
			if k.Set == nil && verdicts[k.Name] == "" {
				t.Errorf("%s: %s is not there", c.file, k.Name)
			}
		}
	}
}
