package server

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/pki"
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

// Under untrusted_senders = refuse, an address that is taken out of the file is cut off, for
// its records would be stored, under its address. Who proves a name is not asked.
func TestUntrustedIsCutOff(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "trusted")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("web1 127.0.0.0/8\n")
	ca := newCA(t)
	cfg := testConfig(shortDir(t))
	cfg.TrustedSenders, cfg.RefuseUntrusted = file, true
	cfg.ListenTLS, cfg.TLS = []string{"127.0.0.1:0"}, ca.files("hub", pki.Send)
	r := start(t, cfg)
	plain := r.dial()
	exchange(t, plain, 1, userRecord("web1", 1))
	web2 := ca.client("web2", pki.Send)
	verified, err := r.dialTLS(web2)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, verified, 1, userRecord("web2", 2))
	_ = verified.Close()
	write("web1 192.0.2.1\n")
	if err := r.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(plain); err != nil {
		t.Errorf("the end of a sender that is not trusted any more: %v", err)
	}
	again := r.dial()
	if _, err := again.Read(make([]byte, 1)); err == nil {
		t.Error("it is taken again")
	}
	need.Wait(t, "the one before has gone", func() bool { return r.secured.Len() == 0 })
	if verified, err = r.dialTLS(web2); err != nil {
		t.Fatal(err)
	}
	exchange(t, verified, 1, userRecord("web2", 3))
}
