package logscan

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// A log that is compressed between the listing and the opening is still read; one
// that is gone is an error in the stock tools' words.
func TestOpenCompressedMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log.1")
	if err := os.WriteFile(path+".zst", pack(t, "x.zst", []byte(login(1))), 0o600); err != nil {
		t.Fatal(err)
	}
	in := Input{}
	logs, err := in.OpenFiles([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	if text, _, err := listed(t, logs, Config{}); err != nil || text != login(1) {
		t.Errorf("%q, %v", text, err)
	}
	gone := filepath.Join(t.TempDir(), "gone")
	if _, err := in.OpenFiles([]string{path, gone}); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "Error opening "+gone+" (") {
		t.Errorf("gone: %v", err)
	}
}

// Each log by itself, by its name, whether compressed or a pipe; and where it begins.
func TestEachAndFirstMs(t *testing.T) {
	dir := t.TempDir()
	plain, packed := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	appendTo(t, plain, "no record\n"+login(1)+login(2))
	if err := os.WriteFile(packed, pack(t, "x.gz", []byte(login(3))), 0o600); err != nil {
		t.Fatal(err)
	}
	r, w := pipeOf(t)
	if _, err := w.WriteString(login(4)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	in := Input{In: r}
	logs, err := in.OpenFiles([]string{plain, packed, Stdin})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	if got := logs.FirstMs(); got != 1700000001000 {
		t.Errorf("it begins at %d", got)
	}
	var names []string
	var texts []string
	var firsts []int64
	err = logs.Each(func(name string, log *Logs) error {
		text, _, err := listed(t, log, Config{})
		names, texts, firsts = append(names, name), append(texts, text), append(firsts, log.FirstMs())
		return err
	})
	if err != nil || !slices.Equal(names, []string{plain, packed, "stdin"}) ||
		!slices.Equal(texts, []string{login(1) + login(2), login(3), login(4)}) || !slices.Equal(firsts, []int64{1700000001000, 0, 0}) {
		t.Errorf("%q %q %d %v", names, texts, firsts, err)
	}
	n := 0
	broken := errors.New("broken")
	if err := logs.Each(func(string, *Logs) error { n++; return broken }); !errors.Is(err, broken) || n != 1 {
		t.Errorf("after an error: %d calls, %v", n, err)
	}

	for text, want := range map[string]int64{
		"":                          0,
		"no record\n":               0,
		"type=USER msg=audit(12":    12000, // cut, but with a second
		"x\n\n" + login(7):          1700000007000,
		"type=USER msg=audit(0):\n": 0,
	} {
		logs := &Logs{readers: []io.Reader{strings.NewReader(text)}}
		if got := logs.FirstMs(); got != want {
			t.Errorf("%q begins at %d, want %d", text, got, want)
		}
	}
	if got := (&Logs{}).FirstMs(); got != 0 {
		t.Errorf("no logs begin at %d", got)
	}
}

// What a file's first bytes say decides, not its name; damage is told at the end.
func TestUnpack(t *testing.T) {
	text := []byte(strings.Repeat(login(1)+login(2), 500))
	open := func(b []byte) *os.File {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	for _, name := range []string{"x", "x.gz", "x.zst"} {
		whole := pack(t, name, text)
		r, packed, damage, err := Unpack(open(whole))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if want := name != "x"; err != nil || !bytes.Equal(got, text) || packed != want {
			t.Errorf("%s: packed: %v, %d bytes of %d, %v", name, packed, len(got), len(text), err)
		}
		if err := damage(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "x" {
			continue
		}
		f := open(whole[:len(whole)-5])
		r, _, damage, err = Unpack(f)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.HasPrefix(text, got) {
			t.Errorf("%s cut: %d bytes, %v", name, len(got), err)
		}
		if err := damage(); err == nil || !strings.HasPrefix(err.Error(), f.Name()+": damaged") {
			t.Errorf("%s cut: damage %v", name, err)
		}
	}
	if _, _, _, err := Unpack(open([]byte{0x1f, 0x8b, 8})); err == nil {
		t.Error("a gzip head alone was opened")
	}
	// A pipe is looked into once it is read.
	p, w := pipeOf(t)
	if _, err := w.Write(pack(t, "x.gz", []byte("x"))); err != nil {
		t.Fatal(err)
	}
	w.Close()
	r, packed, damage, err := Unpack(p)
	if err != nil || packed || damage() != nil {
		t.Fatalf("a pipe: packed: %v, %v", packed, err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "x" {
		t.Errorf("a pipe: %x, %v", got, err)
	}
}

// The prefilter finds the runs with a text, whatever lies between them.
func TestPrefilterMarks(t *testing.T) {
	text := "no record with opens\n" +
		stamped("SYSCALL", `key="opens"`) + "\n" +
		strings.Replace(stamped("SYSCALL", `key="other"`), ":45", ":46", 1) + "\n" +
		"again opens without a time\n" +
		strings.Replace(stamped("SYSCALL", "a=1"), ":45", ":47", 1) + "\n" +
		strings.Replace(stamped("PATH", `name="opens" x="opens"`), ":45", ":47", 1) + "\n" +
		"opens at the end\n"
	q := &query.Query{Terms: []query.Term{{Fields: []query.Field{query.FieldKey}, Op: query.OpContains, Text: "opens"}}}
	f := newPrefilter(q)
	if f.need&hitText == 0 || f.texts == nil {
		t.Fatalf("no text of %+v is looked for", q)
	}
	ix := indexer{filter: f}
	c := &chunk{data: []byte(text)}
	ix.index(c)
	var hit []bool
	for i := range c.runs {
		hit = append(hit, c.runs[i].hits&hitText != 0)
	}
	if !slices.Equal(hit, []bool{true, false, true}) {
		t.Errorf("runs with the text: %v", hit)
	}
	if f := newPrefilter(nil); f.need != 0 {
		t.Errorf("without a query %b is needed", f.need)
	}
}
