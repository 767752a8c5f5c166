package logscan

import (
	"bytes"
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
