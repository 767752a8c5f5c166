package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/internal/need"
)

// A daemon whose rotated logs are first numbered, then compressed, then dated, and
// back: the search finds every event once, in order, among all of them, and the
// stock tool reads a dated one.
func TestSearchOfRotatedLogs(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	log, conf := dir+"/audit.log", dir+"/auditd.conf"
	configure := func(keys string) {
		text := fmt.Sprintf("log_file = %s\nlog_format = RAW\nmax_log_file = 1\nnum_logs = 50\nmax_log_file_action = ROTATE\n%s", log, keys)
		if err := os.WriteFile(conf, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	configure("")
	cmd := exec.Command(copySelf(t, t.TempDir(), "forwarder"), "--source", "stdin", "--log-file", log, "--config", conf)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	saidFile, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer saidFile.Close()
	cmd.Stderr = saidFile
	said := func() string {
		b, err := os.ReadFile(saidFile.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }() // it has ended, unless the test failed

	var want strings.Builder
	n := 0
	older := func(pattern string) int {
		names, err := filepath.Glob(log + pattern)
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	for i, stage := range []struct{ keys, made string }{
		{"", ".[0-9]"},
		{"log_compress = zstd\n", ".[0-9].zst"},
		{"rotated_names = dated\nlog_compress = zstd\n", ".2*.zst"},
		{"rotated_names = dated\n", ".2*[0-9]"},
	} {
		if i > 0 {
			configure(stage.keys)
			if err := cmd.Process.Signal(unix.SIGHUP); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the configuration is read again", func() bool { return strings.Count(said(), "the configuration was read again") == i })
		}
		var b bytes.Buffer
		for range 4000 {
			n++
			fmt.Fprintf(&b, "type=SYSCALL msg=audit(%d.000:%d): arch=c000003e syscall=110 success=yes exit=1 a0=0 a1=0 a2=0 a3=0 items=0 ppid=1 pid=%d auid=0 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=1 comm=\"x\" exe=\"/%s\" key=\"k\"\n", 1700000000+n/100, n, n, strings.Repeat("x", 400))
		}
		want.Write(b.Bytes())
		if _, err := io.Copy(in, &b); err != nil {
			t.Fatalf("%v: %s", err, said())
		}
		waitFor(t, "logs are made as "+stage.keys, func() bool { return older(stage.made) >= 2 })
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said())
	}
	t.Log(files(t, dir))
	if older(".[0-9].zst") != 0 && older(".[0-9][0-9]") != 0 {
		t.Error("numbered logs are left uncompressed")
	}
	out, err := exec.Command(cmd.Path, "search", "--config", conf, "-k", "k", "--raw", "--input-logs").Output()
	if err != nil || string(out) != want.String() {
		t.Errorf("search: %v, %d bytes, want %d", err, len(out), want.Len())
	}
	dated, err := filepath.Glob(log + ".2*[0-9]")
	if err != nil || len(dated) == 0 {
		t.Fatalf("%q, %v", dated, err)
	}
	b, err := os.ReadFile(dated[0])
	if err != nil {
		t.Fatal(err)
	}
	out, err = exec.Command(need.Stock(t, "ausearch"), "-if", dated[0], "-k", "k", "--raw").Output()
	if diff := cmp.Diff(string(b), string(out)); err != nil || diff != "" {
		t.Errorf("the stock ausearch: %v, %d bytes, want %d", err, len(out), len(b))
	}
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("%s %v %d", e.Name(), info.Mode(), info.Size()))
	}
	return names
}
