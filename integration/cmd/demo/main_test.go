package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A folder in which a collector runs is not taken away from under it, nor one that is somebody's.
func TestFolderThatIsUsed(t *testing.T) {
	t.Chdir(t.TempDir()) // a socket's path is short
	if err := os.MkdirAll("demo/store", 0o700); err != nil {
		t.Fatal(err)
	}
	refused := func(why string) {
		t.Helper()
		if err := run(t.Context(), "no-programs", "demo"); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want: %s", err, why)
		}
		if _, err := os.Stat("demo/store"); err != nil {
			t.Error(err)
		}
	}
	refused("not of this command")
	if err := os.WriteFile(filepath.Join("demo", mark), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", "demo/store/collector.sock")
	if err != nil {
		t.Fatal(err)
	}
	refused("a collector runs with demo/store")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	refused("no-programs") // and one that cannot be made anew stays
}

func TestWord(t *testing.T) {
	for _, s := range []string{"demo", "/a b/it's/bin", "$HOME;x", `a\b"c`} {
		out, err := exec.Command("sh", "-c", "printf %s "+word(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%v: %q is %q", err, s, out)
		}
	}
}
