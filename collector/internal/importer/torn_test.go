package importer

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTorn imports a log while its last line is being written, cut at each byte: once the line is whole, the store has it once and as
// it is.
func TestTorn(t *testing.T) {
	t.Parallel()
	c, dir := newCollector(t), t.TempDir()
	text := events(0, 3)
	last := strings.LastIndexByte(text[:len(text)-1], '\n') + 1
	path := filepath.Join(dir, "audit.log")
	for cut := last; cut < len(text); cut += 7 {
		write(t, path, text[:cut])
		c.imports("live", Config{}, path)
	}
	if got, want := c.stored("web1"), strings.Split(strings.TrimSpace(text[:last]), "\n"); !slices.Equal(got, want) {
		t.Errorf("while it is written: %q, want %q", got, want)
	}
	write(t, path, text)
	wantSum(t, "whole", c.imports("live", Config{}, path), 1, 9, 1)
	wantSum(t, "again", c.imports("live", Config{}, path), 1, 9, 0)
	if got, want := c.stored("web1"), strings.Split(strings.TrimSpace(text), "\n"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestTornLongAgo imports a log that nobody goes on writing: the record in its last line is taken as far as it goes, unless its time or
// serial may be cut off.
func TestTornLongAgo(t *testing.T) {
	t.Parallel()
	whole := events(0, 3)
	for _, x := range []struct {
		torn string
		kept int64
	}{{"type=SYSCALL msg=audit(1764", 0}, {"type=SYSCALL msg=audit(1764000009.001:4", 0}, {"type=SYSC", 0}, {"type=SYSCALL msg=audit(1764000009.001:40): arch=c00", 1}} {
		c := newCollector(t)
		path := write(t, filepath.Join(t.TempDir(), "audit.log"), whole+x.torn)
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
		wantSum(t, x.torn, c.imports("old", Config{}, path), 1, 9+x.kept, 9+x.kept)
		wantSum(t, x.torn+", again", c.imports("old", Config{}, path), 1, 9+x.kept, 0)
		got := c.stored("web1")
		if int64(len(got)) != 9+x.kept || x.kept > 0 && got[9] != x.torn {
			t.Errorf("%s: %q", x.torn, got)
		}
	}
}
