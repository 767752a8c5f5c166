package lines

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// What is compressed is unpacked or refused, whatever way it comes: no byte of it is a record.
func TestPackedSource(t *testing.T) {
	const line = "type=USER_LOGIN msg=audit(1700000000.001:1): pid=1 uid=0 res=success"
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := io.WriteString(w, strings.Repeat(line+"\n", 3)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	header := make([]byte, 512)
	copy(header, "audit.log")
	copy(header[257:], "ustar")
	for name, c := range map[string]struct {
		text []byte
		want int
		err  string
	}{
		"plain":   {text: []byte(line + "\n" + line), want: 2},
		"gzip":    {text: packed.Bytes(), want: 3},
		"cut":     {text: packed.Bytes()[:packed.Len()-3], want: 3, err: "damaged, what follows is left out"},
		"lz4":     {text: []byte("\x04\x22\x4d\x18rest\n"), err: "compressed with lz4"},
		"archive": {text: slices.Concat(header, []byte(line)), err: "packed with tar"},
		"empty":   {},
	} {
		path := filepath.Join(t.TempDir(), "audit.log")
		if err := os.WriteFile(path, c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		check := func(how string, cfg Config) {
			in, err := Open(cfg)
			n := 0
			if err == nil {
				done := make(chan error, 1)
				go func() { done <- in.Run(context.Background(), context.Background(), Position{}) }()
				for chunk := range in.Chunks() {
					for _, l := range chunk.Lines {
						if string(l) == line {
							n++
						} else {
							t.Errorf("%s, %s: %q", name, how, l)
						}
					}
					in.Release(chunk)
				}
				if err = <-done; errors.Is(err, io.EOF) {
					err = nil
				}
				if cerr := in.Close(); cerr != nil {
					t.Error(cerr)
				}
			}
			if n != c.want || c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%s, %s: %d records, %v; want %d, %q", name, how, n, err, c.want, c.err)
			}
		}
		check("file", Config{Path: path})
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		check("standard input is a file", Config{Stream: f})
		f.Close()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			first := min(1, len(c.text)) // says nothing yet
			if name == "archive" {
				first = len(header) // nothing writes less of one
			}
			for _, piece := range [][]byte{c.text[:first], c.text[first:]} {
				_, _ = w.Write(piece) // who refuses reads no more
			}
			w.Close()
		}()
		check("pipe", Config{Stream: r})
		r.Close()
	}
}
