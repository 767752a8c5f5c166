package importer

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestNote decodes the example of FORMAT.md, and what is encoded.
func TestNote(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok := strings.Cut(string(doc), "    {")
	if !ok {
		t.Fatal("FORMAT.md has no example")
	}
	n, err := decodeNote([]byte("{" + example))
	if err != nil || len(n.Files) != 1 || n.Files[0].Node != "web1" || !n.Files[0].Done || n.Read != 1 || n.Sum.Stored != 1 || !n.Ended || n.By == "" {
		t.Fatalf("%+v, %v", n, err)
	}
	if _, ok := n.Files[0].Content(); !ok {
		t.Error("the example's hashes are none")
	}
	n.Begun, n.Open = n.Files, []open{{"web1", []byte("a\xff")}}
	text, err := n.encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := decodeNote(text)
	if d := cmp.Diff(n, again); err != nil || d != "" {
		t.Errorf("%v (-encoded +decoded):\n%s", err, d)
	}
}

func FuzzNote(f *testing.F) {
	f.Add([]byte(`{"files":[{"size":1,"head":"","all":"AA=="}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeNote(b)
		if err != nil {
			return
		}
		for i := range n.Files {
			n.Files[i].Content()
		}
		text, err := n.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeNote(text); err != nil {
			t.Errorf("%v: %q", err, text)
		}
	})
}
