package lines

import (
	"bytes"
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
	if want := (Position{dev: 65024, ino: 9977962, offset: 74817, head: 8414953370374229203}); err != nil || p != want {
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
	for _, bad := range []string{"", "x", "auditfleet-follow 2 1 1 1\n", "auditfleet-follow 3 1 1 1 1\n", "auditfleet-follow 1 1 1\n", "auditfleet-follow 1 1 1 -5\n", "auditfleet-follow 1 a 1 1\n"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := LoadPosition(path); !errors.Is(err, ErrStateFile) {
			t.Errorf("%q: %+v, %v, want ErrStateFile", bad, p, err)
		}
	}
	if err := os.WriteFile(path, []byte("auditfleet-follow 1 65024 9977962 74817\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := LoadPosition(path); err != nil || p != (Position{dev: 65024, ino: 9977962, offset: 74817}) {
		t.Errorf("of the version before: %+v, %v", p, err)
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
	p := Position{dev: 2049, ino: 1 << 40, offset: 123456789012, head: 1<<64 - 1}
	mark := p.Mark("/var/lib/a/state")
	if got, ok := ParseMark(mark, "/var/lib/a/state"); !ok || got != p {
		t.Errorf("%q is %+v, %v", mark, got, ok)
	}
	old := mark[:bytes.LastIndexByte(mark, ' ')] // of versions before
	if got, ok := ParseMark(old, "/var/lib/a/state"); !ok || got != (Position{dev: p.dev, ino: p.ino, offset: p.offset}) {
		t.Errorf("%q is %+v, %v", old, got, ok)
	}
	for _, bad := range [][]byte{nil, []byte("x"), p.Mark("/var/lib/b/state"), Position{dev: 1, ino: 1, offset: -1}.Mark("/var/lib/a/state")} {
		if got, ok := ParseMark(bad, "/var/lib/a/state"); ok {
			t.Errorf("%q is %+v", bad, got)
		}
	}
}

// TestAnotherDeviceNumber: a disk has another device number after a boot; the file that was read last is
// found by its inode and its beginning, also under its next name, and no other file is taken for it.
func TestAnotherDeviceNumber(t *testing.T) {
	path := t.TempDir() + "/audit.log"
	text := bytes.Repeat([]byte("type=USER msg=audit(1790000000.000:1): "), 4)
	for name, text := range map[string][]byte{path: []byte("another one" + string(text)), path + ".1": text} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	id, _, err := statID(path + ".1")
	if err != nil {
		t.Fatal(err)
	}
	from := Position{dev: id.dev + 1, ino: id.ino, offset: 100, head: headOf(bytes.NewReader(text))}
	if f := (&follower{path: path, from: from}); f.moved(1) != 1 {
		t.Errorf("it is number %d, want 1", f.moved(1))
	}
	for what, change := range map[string]func(*Position){
		"another beginning":          func(p *Position) { p.head++ },
		"a beginning nobody knows":   func(p *Position) { p.head = 0 },
		"another inode":              func(p *Position) { p.ino += 1 << 40 },
		"less than was read already": func(p *Position) { p.offset = 1 << 20 },
	} {
		p := from
		change(&p)
		if f := (&follower{path: path, from: p}); f.moved(1) != -1 {
			t.Errorf("%s: taken for number %d", what, f.moved(1))
		}
	}
}
