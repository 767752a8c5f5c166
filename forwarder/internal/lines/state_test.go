package lines

import (
	"errors"
	"os"
	"regexp"
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
	p, err := LoadPosition(path)
	if want := (Position{dev: 65024, ino: 9977962, offset: 74817}); err != nil || p != want {
		t.Fatalf("%+v, %v, want %+v", p, err, want)
	}
	if err := p.Save(path + "2"); err != nil {
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
		if p, err := LoadPosition(path); !errors.Is(err, ErrStateFile) {
			t.Errorf("%q: %+v, %v, want ErrStateFile", bad, p, err)
		}
	}
	if p, err := LoadPosition(path + "3"); err != nil || p != (Position{}) {
		t.Errorf("no state yet: %+v, %v", p, err)
	}
	if err := p.Save("/nonexistent/state"); err == nil {
		t.Error("a state file without a folder was written")
	}
}

// The place to follow from is kept in the spool for one state file.
func TestMark(t *testing.T) {
	p := Position{dev: 2049, ino: 1 << 40, offset: 123456789012}
	mark := p.Mark("/var/lib/a/state")
	if got, ok := ParseMark(mark, "/var/lib/a/state"); !ok || got != p {
		t.Errorf("%q is %+v, %v", mark, got, ok)
	}
	for _, bad := range [][]byte{nil, []byte("x"), p.Mark("/var/lib/b/state"), Position{dev: 1, ino: 1, offset: -1}.Mark("/var/lib/a/state")} {
		if got, ok := ParseMark(bad, "/var/lib/a/state"); ok {
			t.Errorf("%q is %+v", bad, got)
		}
	}
}
