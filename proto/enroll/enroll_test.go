package enroll

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFormat decodes the examples of FORMAT.md, and writes them.
func TestFormat(t *testing.T) {
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	var examples []string
	for line := range strings.Lines(string(doc)) {
		if text, ok := strings.CutPrefix(line, "    "); ok {
			examples = append(examples, strings.TrimSpace(text))
		}
	}
	request, reply := Request{Token: "auditfleet1_A", Request: []byte{0x30, 0}}, Reply{Error: "the token was used."}
	if len(examples) != 2 {
		t.Fatalf("%d examples", len(examples))
	}
	for i, message := range []any{&request, &reply} {
		var b bytes.Buffer
		if err := Write(&b, message); err != nil || hex.EncodeToString(b.Bytes()) != examples[i] {
			t.Errorf("%x, %v", b.Bytes(), err)
		}
	}
	var gotRequest Request
	var gotReply Reply
	for i, message := range []any{&gotRequest, &gotReply} {
		raw, err := hex.DecodeString(examples[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := Read(bytes.NewReader(raw), message); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(request, gotRequest) + cmp.Diff(reply, gotReply); d != "" {
		t.Error(d)
	}
}

func TestBadMessages(t *testing.T) {
	for text, want := range map[string]error{"": io.EOF, "\x00\x00": io.ErrUnexpectedEOF, "\x00\x00\x00\x05{}": io.ErrUnexpectedEOF, "\xff\xff\xff\xff{}": ErrMessage, "\x00\x00\x00\x02{]": ErrMessage, "\x00\x00\x00\x00": ErrMessage} {
		if err := Read(strings.NewReader(text), &Request{}); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
	if err := Write(io.Discard, &Reply{Error: strings.Repeat("a", MaxMessage)}); err == nil {
		t.Error("a message is too long, and written")
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\x00\x00\x00\x0f{\"request\":\"AA\"}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r, again Request
		if Read(bytes.NewReader(data), &r) != nil {
			return
		}
		var b bytes.Buffer
		if err := Write(&b, &r); err != nil {
			return // it has become longer
		}
		if err := Read(&b, &again); err != nil || r.Token != again.Token || !bytes.Equal(r.Request, again.Request) {
			t.Errorf("%v: %+v, %+v", err, r, again)
		}
	})
}
