package agent

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The example in FORMAT.md is what is read and written.
func TestStateFormat(t *testing.T) {
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile(`(?m)^    (auditfleet-follow .*\n)`).FindSubmatch(doc)
	if example == nil {
		t.Fatal("no example in FORMAT.md")
	}
	path := t.TempDir() + "/state"
	if err := os.WriteFile(path, example[1], 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := loadState(path)
	if want := (position{dev: 65024, ino: 9977962, offset: 74817}); err != nil || p != want {
		t.Fatalf("%+v, %v, want %+v", p, err, want)
	}
	if err := saveState(path+"2", p); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(path + "2")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(example[1]), string(again)); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", "x", "auditfleet-follow 2 1 1 1\n", "auditfleet-follow 1 1 1\n", "auditfleet-follow 1 1 1 -5\n", "auditfleet-follow 1 a 1 1\n"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := loadState(path); !errors.Is(err, ErrStateFile) {
			t.Errorf("%q: %+v, %v, want ErrStateFile", bad, p, err)
		}
	}
	if p, err := loadState(path + "3"); err != nil || p != (position{}) {
		t.Errorf("no state yet: %+v, %v", p, err)
	}
	if err := saveState("/nonexistent/state", p); err == nil {
		t.Error("a state file without a folder was written")
	}
}

func TestNode(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		format, name, want string
		bad                bool
	}{
		{"none", "x", "", false},
		{"USER", "web1", "web1", false},
		{"user", "", "", true},
		{"user", "a b", "", true},
		{"user", "a=b", "", true},
		{"user", "a\nb", "", true},
		{"user", strings.Repeat("a", 256), "", true},
		{"hostname", "x", host, false},
	} {
		f, err := ParseNameFormat(c.format)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Node(t.Context(), f, c.name)
		if got != c.want && !c.bad || c.bad != errors.Is(err, ErrNodeName) {
			t.Errorf("%s %q: %q, %v, want %q", c.format, c.name, got, err, c.want)
		}
	}
	if _, err := ParseNameFormat("dns"); err == nil {
		t.Error("name_format = dns was taken")
	}
}

// The place to follow from is kept in the spool for one state file.
func TestMark(t *testing.T) {
	p := position{dev: 2049, ino: 1 << 40, offset: 123456789012}
	mark := p.mark("/var/lib/a/state")
	if got, ok := parseMark(mark, "/var/lib/a/state"); !ok || got != p {
		t.Errorf("%q is %+v, %v", mark, got, ok)
	}
	for _, bad := range [][]byte{nil, []byte("x"), p.mark("/var/lib/b/state"), position{dev: 1, ino: 1, offset: -1}.mark("/var/lib/a/state")} {
		if got, ok := parseMark(bad, "/var/lib/a/state"); ok {
			t.Errorf("%q is %+v", bad, got)
		}
	}
}
