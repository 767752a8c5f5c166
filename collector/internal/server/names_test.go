package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Records without node= are stored under the sender's name in the hosts file; one
// with node= under that. A file that is wrong at a reload changes nothing.
func TestHostsFile(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	file := filepath.Join(t.TempDir(), "hosts")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("127.0.0.1 web9\n")
	cfg := testConfig(dir)
	cfg.HostsFile = file
	r := start(t, cfg)
	c := r.dial()
	bare := func(n int) string { return strings.TrimPrefix(userRecord("x", n), "node=x ") }
	seq := uint32(0)
	send := func(rec string) {
		t.Helper()
		seq++
		exchange(t, c, seq, rec)
	}
	send(bare(1))
	send(userRecord("web1", 2))
	write("127.0.0.1\n")
	if err := r.Reconfigure(cfg); err == nil || !strings.Contains(err.Error(), file+":1: ") {
		t.Errorf("a hosts file that is wrong: %v", err)
	}
	send(bare(3))
	write("127.0.0.1 web10\n")
	if err := r.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	send(bare(4))
	cfg.HostsFile = ""
	if err := r.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	send(bare(5))
	client := r.client()
	for node, want := range map[string][]string{"web9": {bare(1), bare(3)}, "web1": {userRecord("web1", 2)}, "web10": {bare(4)}, "127.0.0.1": {bare(5)}} {
		if diff := cmp.Diff(want, raws(t, scanner(client), node)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", node, diff)
		}
	}
	cfg.HostsFile = filepath.Join(dir, "none")
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "hosts_file") {
		t.Errorf("no such file: %v", err)
	}
}
