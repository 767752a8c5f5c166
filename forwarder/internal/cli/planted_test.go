package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/internal/need"
)

// A FIFO where a file is to be read is refused at once: it would be waited for, for
// ever. Links are followed where the stock tools do.
func TestFIFOsAreNotWaitedFor(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	fifo, ok, link := filepath.Join(dir, "x.rules"), filepath.Join(dir, "ok"), filepath.Join(dir, "link")
	for _, err := range []error{unix.Mkfifo(fifo, 0o600), os.WriteFile(ok, []byte("# nothing\n"), 0o640), os.Symlink(ok, link)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	say := func(args ...string) (int, string) {
		var out bytes.Buffer
		code := Run(t.Context(), args, Stdio{Out: &out, Err: &out}, "v-test")
		return code, out.String()
	}
	for _, args := range [][]string{
		{"auditctl", "-R", fifo}, {"forwarder", "ctl", "-R", fifo}, {"forwarder", "ctl", "--explain", "-R", fifo}, {"forwarder", "rules", "lint", fifo},
		{"forwarder", "run", "--source", "stdin", "--remote", "localhost", "--config", fifo}, {"forwarder", "run", "--source", "stdin", "--remote-config", fifo},
		{"forwarder", "rules", "lint", dir},
		{"forwarder", "search", "--config", fifo, "-if", ok, "-k", "x"}, {"forwarder", "search", "-if", ok, "--checkpoint", fifo},
	} {
		if _, text := say(args...); !strings.Contains(text, "not a regular file") && !strings.Contains(text, "is a pipe") {
			t.Errorf("%q: %s", args, text)
		}
	}
	for _, args := range [][]string{{"forwarder", "ctl", "--explain", "-R", link}, {"forwarder", "rules", "lint", link}} {
		if code, text := say(args...); code != 0 {
			t.Errorf("%q: exit %d: %s", args, code, text)
		}
	}
}

// A folder of the spool or of a state file that others may write is refused, and
// what they planted there is left alone.
func TestSharedFoldersAreRefused(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	shared, victim := filepath.Join(dir, "shared"), filepath.Join(dir, "victim")
	if err := os.Mkdir(shared, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Chmod(shared, 0o777|os.ModeSticky), os.WriteFile(victim, []byte("root's"), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"lock", "state", "state.tmp", "left.tmp", "VERSION.tmp", "rep.tmp"} {
		if err := os.Symlink(victim, filepath.Join(shared, name)); err != nil {
			t.Fatal(err)
		}
	}
	log := filepath.Join(dir, "log")
	if err := os.WriteFile(log, []byte("type=USER msg=audit(1.000:1): x=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--spool", shared},
		{"--spool", filepath.Join(dir, "spool"), "--follow", "--state", filepath.Join(shared, "state")},
	} {
		var out bytes.Buffer
		args = append([]string{"forwarder", "run", "--source", log, "--remote", "127.0.0.1:1", "--drain-timeout", "1ms", "--report", filepath.Join(dir, "rep"), "--pid-file", "none"}, args...)
		code := Run(t.Context(), args, Stdio{Out: &out, Err: &out}, "v-test")
		if text := out.String(); code != 1 || !strings.Contains(text, "others may write in the folder") || !strings.Contains(text, "chmod go-w "+shared) {
			t.Errorf("%q: exit %d: %s", args, code, text)
		}
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "root's" {
		t.Errorf("root's file has %q (%v)", b, err)
	}
}
