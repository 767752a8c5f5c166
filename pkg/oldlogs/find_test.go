package oldlogs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// line is a record of a second and a serial.
func line(sec, serial int) string {
	return fmt.Sprintf("type=USER_LOGIN msg=audit(%d.500:%d): pid=1 uid=0 res=success\n", sec, serial)
}

// put writes a file, compressed where the name says so.
func put(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pack(t, filepath.Ext(path), text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func pack(t testing.TB, how, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch how {
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".zst":
		w, err = zstd.NewWriter(&b)
	case ".xz":
		w, err = xz.NewWriter(&b)
	default:
		return []byte(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Files are told by what is in them, put in the order of their events, given to their hosts,
// and read once.
func TestFind(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "web1/audit/audit.log", line(5000, 1)+line(5001, 2))
	put(t, "web1/audit/audit.log.1", line(3000, 1)+line(4000, 2))
	put(t, "web1/audit/audit.log.2.gz", line(1000, 1)+line(2000, 2))
	put(t, "web1/audit/backup.xz", line(3000, 1)+line(4000, 2))                          // audit.log.1's
	put(t, "web1/audit/no-suffix", string(pack(t, ".zst", line(1000, 1)+line(2000, 2)))) // audit.log.2.gz'
	put(t, "web2/audit/audit-20230101", "Nov 28 14:04:05 web7 audispd: "+line(2500, 1))
	put(t, "web2/audit/clone", line(3000, 1)+line(4000, 2)) // audit.log.1's, of another host
	put(t, "db/old", "# comment\ntype=1300 audit(1500.000:7): syscall=2\n")
	put(t, "db/late", strings.Repeat("a message of some program\n", 8000)+line(6000, 1))
	put(t, "db/notes", "nothing\n")
	put(t, "db/segment", "AFSEGLOG\x01\n"+line(6000, 1)+line(6001, 2))
	put(t, "db/empty", "")
	put(t, "db/lz4", "\x04\x22\x4d\x18rest")
	if err := os.Symlink("old", "db/link"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo("db/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	pattern, err := ParsePattern("{node}/audit/*")
	if err != nil {
		t.Fatal(err)
	}
	set, err := Find(t.Context(), Config{Paths: []string{".", "web1", "web1/audit/audit.log", "db/old"}, Node: "other", NodeFrom: pattern})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range set.Files {
		got = append(got, fmt.Sprint(f.Path, " ", f.Node, " ", f.First, "-", f.Last, " ", f.Packed, " ", f.Same))
	}
	want := []string{
		"web1/audit/audit.log.2.gz web1 1000500-0 true ", "web1/audit/no-suffix web1 1000500-0 true web1/audit/audit.log.2.gz",
		"db/old other 1500000-1500000 false ", "web2/audit/audit-20230101 web2 2500500-2500500 false ",
		"web1/audit/backup.xz web1 3000500-0 true web1/audit/audit.log.1",
		"web1/audit/audit.log.1 web1 3000500-4000500 false ", "web2/audit/clone web2 3000500-4000500 false ",
		"web1/audit/audit.log web1 5000500-5001500 false ", "db/late other 6000500-6000500 false ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	why := map[string]error{"db/notes": ErrNoRecords, "db/segment": ErrSpool, "db/empty": ErrEmpty, "db/lz4": nil, "db/link": ErrLink, "db/pipe": ErrNotRegular}
	for _, p := range set.Passed {
		want, ok := why[p.Path]
		if !ok || want != nil && !errors.Is(p.Why, want) || p.Why == nil {
			t.Errorf("passed over: %s: %v, want %v", p.Path, p.Why, want)
		}
		delete(why, p.Path)
	}
	if len(why) != 0 {
		t.Errorf("not said: %v", why)
	}
	hosts := map[string]int{}
	if err := set.Read(t.Context(), ReadConfig{Record: func(e *Entry) error { hosts[string(e.Node)]++; return nil }}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"web1": 6, "web2": 2, "web7": 1, "other": 2}, hosts); diff != "" {
		t.Error(diff)
	}
	if done, all := set.Progress(); done != all || all == 0 {
		t.Errorf("%d of %d bytes", done, all)
	}
	if _, err := Find(t.Context(), Config{Paths: []string{"gone"}}); err == nil || err.Error() != "gone: no such file or directory" {
		t.Error(err)
	}
	if _, err := Find(t.Context(), Config{Node: "a b"}); err == nil {
		t.Error("a node with a space")
	}
}

// The first record's stamp is whole, wherever what was read at once ends.
func TestFirstStampWhole(t *testing.T) {
	dir := t.TempDir()
	for cut := range len(line(1700000000, 1)) {
		junk := strings.Repeat("x", 99) + "\n"
		text := strings.Repeat(junk, firstLook/len(junk)-1)
		text += strings.Repeat("y", firstLook-len(text)-cut-1) + "\n" + line(1700000000, 1)
		path := put(t, filepath.Join(dir, fmt.Sprint(cut)), text)
		set, err := Find(t.Context(), Config{Paths: []string{path}})
		if err != nil || len(set.Files) != 1 || set.Files[0].First != 1700000000500 {
			t.Errorf("%d bytes of it in the first part: %d files, %v", cut, len(set.Files), err)
		}
	}
}

func TestPattern(t *testing.T) {
	for _, c := range []struct{ pattern, path, want string }{
		{"/logs/{node}/audit/*", "/logs/web1/audit/audit.log.1", "web1"},
		{"/logs/{node}/audit/*", "/logs/web1/audit/old/audit.log", ""},
		{"/logs/{node}/audit/**", "/logs/web1/audit/old/audit.log", "web1"},
		{"/logs/{node}/audit/*", "/mnt/logs/web1/audit/audit.log", ""},
		{"{node}/audit/*", "/mnt/logs/web1/audit/audit.log", "web1"},
		{"{node}/audit/*", "web1/audit/audit.log", "web1"},
		{"audit-{node}.log*", "/a/audit-db.example.log.2.gz", "db.example"},
		{"/l?gs/{node}/{x}+.log", "/logs/a/{x}+.log", "a"},
		{"/logs/{node}/*", "/logs/a b/audit.log", ""},
		{"/logs/{node}/*", "/logs/a\x01/audit.log", ""},
		{"/logs/{node}/*", "/logs/\xff/audit.log", ""},
		{"/logs/{node}/*", "/logs/" + strings.Repeat("a", 256) + "/audit.log", ""},
	} {
		p, err := ParsePattern(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		if got, ok := p.Node(c.path); got != c.want || ok != (c.want != "") {
			t.Errorf("%s of %s: %q, %v; want %q", c.pattern, c.path, got, ok, c.want)
		}
	}
	for _, bad := range []string{"", "/logs/*", "{node}/{node}"} {
		if _, err := ParsePattern(bad); !errors.Is(err, ErrPattern) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
