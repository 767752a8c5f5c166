package search

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkFile is a search of a log file from end to end.
func BenchmarkFile(b *testing.B) {
	one, err := os.ReadFile("testdata/kernel-node.log")
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "log")
	if err := os.WriteFile(path, bytes.Repeat(one, 100), 0o600); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
	}{{"key", []string{"-r", "-k", "nowhere"}}, {"all", []string{"-r"}}} {
		b.Run(c.name, func(b *testing.B) {
			o, err := ParseArgs(append(c.args, "-if", path), utcEnv)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(100 * len(one)))
			b.ReportAllocs()
			for b.Loop() {
				RunFiles(b.Context(), o, time.UTC, "", Stdio{Out: io.Discard, Err: io.Discard})
			}
		})
	}
}
