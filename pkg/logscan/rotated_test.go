package logscan

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// pack compresses as a file's name says.
func pack(t *testing.T, name string, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch filepath.Ext(name) {
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".zst":
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	default:
		return text
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// rawIn is the records of a file's or a folder's events.
func rawIn(t *testing.T, path string) (text string, err error) {
	t.Helper()
	in := Input{Path: path, Notes: io.Discard}
	logs, err := in.Open()
	if err != nil {
		return "", err
	}
	defer logs.Close()
	text, _, err = listed(t, logs, Config{})
	return text, err
}

// TestRotatedCompressed: a folder is read in order of time whatever its files are
// called and however they are compressed. Events reach from one to the next.
func TestRotatedCompressed(t *testing.T) {
	whole, err := os.ReadFile(testLogs + "kernel-raw.log")
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	for _, names := range [][]string{
		{"audit.log.3.gz", "audit.log.2.zst", "audit.log.1", "audit.log"},
		{"audit.log.2026-11-20T10-00-00.zst", "audit.log.2026-11-21T10-00-00", "audit.log.2026-11-22T10-00-00.gz", "audit.log"},
		{"audit.log.11.zst", "audit.log.10.zst", "audit.log.9", "audit.log.8", "audit.log.7.gz", "audit.log.6", "audit.log.5", "audit.log.4", "audit.log.3", "audit.log.2", "audit.log.1", "audit.log"},
		{"audit.log.2.gz", "audit.log.1", "audit.log.2026-11-20T10-00-00.zst", "audit.log"}, // from numbers to dates
		{"audit.log.2026-11-20T10-00-00.zst", "audit.log.2", "audit.log.1.gz", "audit.log"}, // and back
	} {
		dir := t.TempDir()
		for i, name := range names {
			from, to := len(lines)*i/len(names), len(lines)*(i+1)/len(names)
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, pack(t, name, bytes.Join(lines[from:to], nil)), 0o600); err != nil {
				t.Fatal(err)
			}
			if at := time.Unix(1795337601+int64(i), 0); os.Chtimes(path, at, at) != nil {
				t.Fatal(name)
			}
		}
		for _, other := range []string{"audit.log.2026-11-22", "audit.log.x", "audit.log.1.bak", "audit.log.99.gz", "other.log.2026-11-20T10-00-00", "audit.log.2026-13-20T10-00-00"} {
			if err := os.WriteFile(filepath.Join(dir, other), []byte("not a log"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var want []string
		for _, name := range names {
			want = append(want, filepath.Join(dir, name))
		}
		if d := cmp.Diff(want, rotated(filepath.Join(dir, "audit.log"))); d != "" {
			t.Error(d)
		}
		if out, err := rawIn(t, dir); err != nil || out != string(whole) {
			t.Errorf("%q: %d bytes of %d, %v", names, len(out), len(whole), err)
		}
		if one, err := rawIn(t, filepath.Join(dir, names[0])); err != nil || !strings.HasPrefix(string(whole), one[:200]) {
			t.Errorf("%s alone: %v", names[0], err)
		}
	}
}

// TestRotatedTwice: a file that is being compressed is there twice, and counts once.
func TestRotatedTwice(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"audit.log", "audit.log.1", "audit.log.1.gz", "audit.log.1.zst", "audit.log.2026-11-20T10-00-00", "audit.log.2026-11-20T10-00-00.zst"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := rotated(filepath.Join(dir, "audit.log")); len(got) != 3 || strings.HasSuffix(strings.Join(got, ""), "z") {
		t.Errorf("%q", got)
	}
}

// TestDamagedCompressed: what can be unpacked is read, the files behind it, too,
// and the damage is said.
func TestDamagedCompressed(t *testing.T) {
	whole, err := os.ReadFile(testLogs + "kernel-raw.log")
	if err != nil {
		t.Fatal(err)
	}
	half := bytes.LastIndexByte(whole[:len(whole)/2], '\n') + 1
	for _, name := range []string{"audit.log.1.gz", "audit.log.1.zst"} {
		dir := t.TempDir()
		packed := pack(t, name, bytes.Repeat(whole[:half], 20))
		if err := os.WriteFile(filepath.Join(dir, name), packed[:len(packed)*3/4], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "audit.log"), whole[half:], 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := rawIn(t, dir)
		if err == nil || !strings.Contains(err.Error(), name+": damaged, what follows is left out") || !strings.HasSuffix(out, string(whole[len(whole)-1000:])) {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
	}
	empty := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(empty, []byte{0x1f, 0x8b, 8}, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := rawIn(t, empty); err == nil || !strings.HasPrefix(err.Error(), "Error opening "+empty) {
		t.Errorf("a head alone: %v", err)
	}
}
