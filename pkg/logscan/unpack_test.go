package logscan

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

const packedLine = "type=USER_LOGIN msg=audit(1700000000.001:1): pid=1 uid=0 res=success\n"

// packedBzip2 is packedLine as bzip2 -9 packs it.
const packedBzip2 = "QlpoOTFBWSZTWT9xHMIAAB7fgAQQQGFgkgKlmgCuol4gIABUU1D1MT0TRpiaZBtQinplMgeoA2p6jRkP9zvK6YvJBBEcUMCggsHXeKx3aKq2jDSXgOnQ8jOHpggYmBFcTVf8XckU4UJA/cRzCA=="

// packings are packedLine in every compression that is read.
func packings(t testing.TB) map[string][]byte {
	t.Helper()
	bz, err := base64.StdEncoding.DecodeString(packedBzip2)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{"": []byte(packedLine), ".bz2": bz}
	for suffix, open := range map[string]func(io.Writer) (io.WriteCloser, error){
		".gz":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		".zst": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
		".xz":  func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
	} {
		var b bytes.Buffer
		w, err := open(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, packedLine); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		out[suffix] = b.Bytes()
	}
	return out
}

// The first bytes say how a log is compressed, whatever it is called, and one that was cut
// or damaged is read up to there.
func TestPackings(t *testing.T) {
	for suffix, packed := range packings(t) {
		for what, text := range map[string][]byte{"whole": packed, "twice": append(bytes.Clone(packed), packed...), "cut": packed[:len(packed)-3]} {
			path := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			r, isPacked, damage, err := Unpack(f)
			if err != nil || isPacked != (suffix != "") {
				t.Fatalf("%s, %s: %v, %v", suffix, what, isPacked, err)
			}
			got, err := io.ReadAll(r)
			derr := damage()
			f.Close()
			switch want := map[string]string{"whole": packedLine, "twice": packedLine + packedLine}[what]; {
			case err != nil:
				t.Errorf("%s, %s: %v", suffix, what, err)
			case what == "cut" && suffix != "" && (derr == nil || !strings.Contains(derr.Error(), "damaged, what follows is left out")):
				t.Errorf("%s, cut: %v", suffix, derr)
			case what != "cut" && (string(got) != want || derr != nil):
				t.Errorf("%s, %s: %q, %v", suffix, what, got, derr)
			}
		}
	}
}

// The same of what can be read once, in whatever pieces it comes: of Scan, which waits for
// a pipe, of Follow and of a question that reads twice.
func TestPackedPipes(t *testing.T) {
	for suffix, packed := range packings(t) {
		for what, text := range map[string][]byte{"whole": packed, "cut": packed[:len(packed)-3]} {
			if what == "cut" && suffix == "" {
				continue
			}
			for how, ask := range map[string]func(*Source, func(*event.Event) error) error{
				"scan": func(s *Source, fn func(*event.Event) error) error { return s.Scan(t.Context(), &query.Query{}, fn) },
				"again": func(s *Source, fn func(*event.Event) error) error {
					s.Again = true
					return s.Scan(t.Context(), &query.Query{}, fn)
				},
				"follow": func(s *Source, fn func(*event.Event) error) error {
					return s.Follow(t.Context(), &query.Query{}, fn, nil)
				},
			} {
				r, w := pipeOf(t)
				go func() {
					defer w.Close()
					for _, b := range text {
						if _, err := w.Write([]byte{b}); err != nil {
							t.Error(err)
						}
					}
				}()
				var damaged error
				src := &Source{Input: Input{In: r, Stdin: true, Notes: io.Discard}, Damaged: func(err error) { damaged = err }}
				n := 0
				err := ask(src, func(ev *event.Event) error { n += len(ev.Records); return nil })
				err = errors.Join(err, damaged, src.Close())
				switch {
				case what == "whole" && (n != 1 || err != nil):
					t.Errorf("%s, %s: %d records, %v", suffix, how, n, err)
				case what == "cut" && (err == nil || !strings.Contains(err.Error(), "damaged, what follows is left out")):
					t.Errorf("%s, %s, cut: %v", suffix, how, err)
				}
			}
		}
	}
}

// Files that other programs write than gzip and zstd themselves.
func TestOddPackings(t *testing.T) {
	packed := packings(t)
	skip := []byte("\x5a\x2a\x4d\x18\x03\x00\x00\x00abc") // as pzstd begins
	twice := new(bytes.Buffer)
	w := gzip.NewWriter(twice)
	if _, err := w.Write(packed[".zst"]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text      []byte
		want, err string
	}{
		"skipped frame": {append(skip, packed[".zst"]...), packedLine, ""},
		"empty bzip2":   {[]byte("BZh9\x17\x72\x45\x38\x50\x90\x00\x00\x00\x00"), "", ""},
		"zeros":         {slices.Concat(packed[".gz"], make([]byte, 600), packed[".gz"], make([]byte, 70_000)), packedLine + packedLine, ""},
		"letters":       {slices.Concat(packed[".gz"], []byte("\x00\x00letters")), packedLine, "damaged"},
		"twice":         {twice.Bytes(), "", "compressed more than once"},
	} {
		r, damage := UnpackStream(bytes.NewReader(c.text), name)
		got, err := io.ReadAll(r)
		err = errors.Join(err, damage())
		if string(got) != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// Each block of an xz file says how large a dictionary it wants, which the decoder would make.
func TestLargeDictionary(t *testing.T) {
	text := strings.Repeat(packedLine, 1000)
	var b bytes.Buffer
	for _, sum := range []byte{xz.None, xz.CRC32, xz.CRC64, xz.SHA256} { // streams that continue each other
		w, err := xz.WriterConfig{BlockSize: 7000, CheckSum: sum, NoCheckSum: sum == xz.None}.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		b.Write(make([]byte, 8)) // padding
	}
	many := bytes.Clone(b.Bytes())
	read := func(in io.Reader) (string, error) {
		r, damage := UnpackStream(in, "log")
		got, err := io.ReadAll(r)
		return string(got), errors.Join(err, damage())
	}
	for _, in := range []io.Reader{bytes.NewReader(many), iotest.OneByteReader(bytes.NewReader(many)), iotest.DataErrReader(bytes.NewReader(many))} {
		if got, err := read(in); err != nil || got != strings.Repeat(text, 4) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	headers := 0
	for at := 0; at+12 < len(many); at += 4 {
		header := many[at : at+12 : at+12]
		if !bytes.Equal(header[:2], []byte{2, 0}) || header[2] != 0x21 || header[3] != 1 || crc32.ChecksumIEEE(header[:8]) != binary.LittleEndian.Uint32(header[8:]) {
			continue
		}
		headers++
		if headers%10 != 0 {
			continue
		}
		wide := bytes.Clone(many)
		wide[at+4] = 40 // 4 GiB
		binary.LittleEndian.PutUint32(wide[at+8:], crc32.ChecksumIEEE(wide[at:at+8]))
		got, err := read(bytes.NewReader(wide))
		if err == nil || !strings.Contains(err.Error(), "dictionary of 4096 MiB") || len(got) < (headers-1)*6000 {
			t.Errorf("block %d: %d bytes, %v", headers, len(got), err)
		}
	}
	if headers < 40 {
		t.Errorf("%d blocks", headers)
	}
}

// A decoder has not damaged what could not be read.
func TestInputError(t *testing.T) {
	broken := errors.New("broken")
	for suffix, packed := range packings(t) {
		r, damage := UnpackStream(io.MultiReader(bytes.NewReader(packed[:len(packed)/2]), iotest.ErrReader(broken)), "log")
		_, err := io.ReadAll(r)
		if derr := damage(); !errors.Is(err, broken) || derr != nil {
			t.Errorf("%s: %v, %v", suffix, err, derr)
		}
	}
}

// Compression that is not read is said by its name, and so is too large a dictionary.
func TestNotUnpacked(t *testing.T) {
	wide := bytes.Clone(packings(t)[".xz"])
	at := bytes.Index(wide, []byte{0x21, 1}) + 2
	wide[at] = 40 // 4 GiB
	for text, want := range map[string]string{
		"\x04\x22\x4d\x18rest": "compressed with lz4, which is not read: unpack it first, as unlz4 does", "PK\x03\x04rest": "compressed with zip", "7z\xbc\xaf\x27\x1crest": "compressed with 7-Zip",
		"\x5d\x00\x00\x80\x00": "compressed with lzma", string(wide): "xz with a dictionary of 4096 MiB, 128 is the most: unpack it first",
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		in := Input{Path: path}
		if _, err := in.Open(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.10q: %v, want %s", text, err, want)
		}
	}
}

// Rotated logs may be compressed in each of these ways.
func TestRotatedPackings(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "audit.log")
	var want []string
	n := 0
	for suffix, packed := range packings(t) {
		n++
		name := log + "." + string(rune('0'+n)) + suffix
		if err := os.WriteFile(name, packed, 0o600); err != nil {
			t.Fatal(err)
		}
		want = append([]string{name}, want...)
	}
	want = append(want, log)
	if got := rotated(log); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzUnpack(f *testing.F) {
	for _, packed := range packings(f) {
		f.Add(packed)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		r, _, damage, err := Unpack(file)
		if err != nil {
			return
		}
		_, _ = io.CopyN(io.Discard, r, 1<<20)
		_ = damage()
	})
}
