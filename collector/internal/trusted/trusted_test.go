package trusted

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/query"
)

func TestSenders(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "senders")
	text := "\ufeffWeb1 10.9.0.0/16\n# hosts of ours\n\nweb1,web2\t10.0.0.0/8 2001:db8::7\r\ndb*.example.net 192.0.2.7,::ffff:198.51.100.0/120 # both\nCafe 2001:db8:1::/48\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, addr     string
		allowed, known bool
	}{
		{"web1", "10.9.9.9", true, true},
		{"web2", "::ffff:10.1.1.1", true, true},
		{"web2", "2001:db8::7%eth0", true, true},
		{"web3", "10.1.1.1", false, true},
		{"web1", "192.0.2.7", false, true},
		{"db9.example.net", "192.0.2.7", true, true},
		{"db9.example.net", "198.51.100.200", true, true},
		{"db9.example.org", "198.51.100.200", false, true},
		{"web1", "192.0.2.8", false, false},
		{"WEB1.", "10.1.1.1", true, true},
		{"DB9.example.NET", "192.0.2.7", true, true},
		{"web", "10.1.1.1", false, true},
		{"", "10.1.1.1", false, true},
		{"cafe", "2001:db8:1::9", true, true},
		{"web1", "2001:db8:1::9", false, true},
	} {
		a := netip.MustParseAddr(c.addr)
		if got, known := s.Allows(c.name, a), s.Knows(a); got != c.allowed || known != c.known {
			t.Errorf("%s from %s: allowed %v, known %v", c.name, c.addr, got, known)
		}
	}
	var none *Senders
	if !none.Allows("x", netip.Addr{}) || !none.Knows(netip.Addr{}) {
		t.Error("without a file somebody is not trusted")
	}
}

// Each mistake is named with its line, and a file that lets nobody send is one.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                     "nobody could send",
		"# nothing\n":                          "nobody could send",
		"a 10.0.0.1\nweb1\n":                   "f:2: \"web1\" has no address",
		"web1 nowhere\n":                       "f:1: \"nowhere\" is neither",
		"web1, 10.0.0.1\n":                     "f:1: \"web1,\": a name is missing",
		"web1 10.0.0.1/8\n":                    "did you mean 10.0.0.0/8?",
		"we\xffb1 10.0.0.1\n":                  "can't be seen",
		"we\u200bb1 10.0.0.1\n":                "can't be seen",
		"web1 10.0.0.1,\n":                     "is neither an address",
		strings.Repeat("x", 256) + " 10.0.0.1": "too long",
	} {
		if _, err := parse("f", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
	file := filepath.Join(t.TempDir(), "senders")
	if err := os.WriteFile(file, []byte("a 10.0.0.1\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(file); err == nil {
		t.Error("a file that anybody may change is trusted")
	}
}

// What is asked for each record must not take as long as there are lines: the answer is that
// of looking at each of them.
func TestManyLines(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	var lines []line
	var text strings.Builder
	for i := range 20_000 {
		a := netip.AddrFrom4([4]byte{10, byte(rng.IntN(2)), byte(rng.IntN(4)), byte(rng.IntN(256))})
		p, _ := a.Prefix([]int{8, 22, 24, 30, 32}[rng.IntN(5)])
		name := fmt.Sprintf("h%d", rng.IntN(50))
		if i%1000 == 0 {
			name = fmt.Sprintf("h%d*", rng.IntN(10))
		}
		l := line{names: []string{name}, networks: []netip.Prefix{p}}
		if rng.IntN(100) == 0 {
			lines = append(lines, l)
			fmt.Fprintf(&text, "%s %s\n", name, p)
		}
	}
	s, err := parse("f", text.String())
	if err != nil {
		t.Fatal(err)
	}
	for range 20_000 {
		a := netip.AddrFrom4([4]byte{10, byte(rng.IntN(3)), byte(rng.IntN(5)), byte(rng.IntN(256))})
		name := fmt.Sprintf("h%d", rng.IntN(60))
		allowed, known := false, false
		for _, l := range lines {
			has := l.networks[0].Contains(a)
			known = known || has
			allowed = allowed || has && query.NodeIs(l.names[0], name)
		}
		if s.Allows(name, a) != allowed || s.Knows(a) != known {
			t.Fatalf("%s from %s: allowed %v, known %v", name, a, allowed, known)
		}
	}
}
