package server

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseNames(t *testing.T) {
	n, err := parseNames("h", "# the fleet\n\n10.0.0.1 web1.example.net web1 # rack 3\n2001:db8::1\tweb2\n::ffff:10.0.0.2 web3\n10.0.0.1 other\r\nfe80::1%eth0 link\n")
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"10.0.0.1": "web1.example.net", "::ffff:10.0.0.1": "web1.example.net", "2001:db8::1": "web2", "10.0.0.2": "web3", "fe80::1%eth7": "link", "10.0.0.3": "",
	} {
		if got := n.of(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is %q, want %q", addr, got, want)
		}
	}
	_, err = parseNames("h", "10.0.0.1\nweb1 10.0.0.1\n\n10.0.0.4 a\x01b\n10.0.0.5 "+strings.Repeat("x", 256)+"\n")
	want := "h:1: 10.0.0.1 has no name\nh:2: \"web1\" is not an address\nh:4: \"a\\x01b\" is not a name\nh:5: "
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v\nwant %s", err, want)
	}
}

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
