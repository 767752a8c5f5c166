package rows

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

const exampleText = "type=A msg=audit(1.000:7): pid=5 x=1\ntype=A msg=audit(1.002:9): pid=5 x=1\ntype=A msg=audit(1.002:9): pid=6 x=ab\n"

// The example of FORMAT.md decodes to the text that stands there, and is what an Encoder makes of it.
func TestExample(t *testing.T) {
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), exampleText) {
		t.Error("the text is another one")
	}
	_, rest, _ := bytes.Cut(doc, []byte("```hex\n"))
	block, _, _ := bytes.Cut(rest, []byte("```"))
	parts := make([][]byte, 1+Streams)
	i := -1
	for l := range strings.Lines(string(block)) {
		h, what, ok := strings.Cut(strings.TrimRight(l, "\n"), "|")
		if !ok {
			t.Fatalf("%q", l)
		}
		if name := strings.TrimSpace(what); strings.HasPrefix(name, "table") || strings.HasPrefix(name, "stream") {
			i++
		}
		b, err := hex.DecodeString(strings.ReplaceAll(h, " ", ""))
		if err != nil || i < 0 {
			t.Fatalf("%q: %v", l, err)
		}
		parts[i] = append(parts[i], b...)
	}
	e := NewEncoder(NewTable())
	streams, lines, tail := e.Encode([]byte(exampleText))
	if got := e.Table().Append(nil); !bytes.Equal(got, parts[0]) {
		t.Errorf("the table is %x, FORMAT.md says %x", got, parts[0])
	}
	var said [Streams][]byte
	for i := range streams {
		if said[i] = parts[1+i]; !bytes.Equal(streams[i], said[i]) {
			t.Errorf("stream %d is %x, FORMAT.md says %x", i, streams[i], said[i])
		}
	}
	table, err := ReadTable(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	var d Decoder
	got, err := d.Decode(nil, table, &said, lines, tail, len(exampleText))
	if err != nil || string(got) != exampleText {
		t.Errorf("%q, %v", got, err)
	}
}
