package integration

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// unpackStore unpacks a store of testdata/stores, a folder with a file for each version. A collector of that
// version made it: it took ten records of web1, was stopped, took the same of db1, and was killed.
func unpackStore(t *testing.T, archive string) (dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	plain, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	dir = filepath.Join(t.TempDir(), "store")
	for in := tar.NewReader(plain); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if h.FileInfo().IsDir() {
			if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		text, err := io.ReadAll(in)
		// Its journal ends with 64 MiB of nothing.
		if err = errors.Join(err, os.WriteFile(path, bytes.TrimRight(text, "\x00"), 0o600), os.Truncate(path, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
}

// A store of every version, left by a collector of that time that was killed, is taken over whole: each record
// is found once, and nothing is damaged. package-test.sh does the same by an upgrade of packages.
func TestStoreOfEveryVersion(t *testing.T) {
	t.Parallel()
	list, err := filepath.Glob("testdata/stores/v*.tar.gz")
	if err != nil || len(list) < 4 {
		t.Fatalf("%d stores: %v", len(list), err)
	}
	for _, archive := range list {
		t.Run(filepath.Base(archive), func(t *testing.T) {
			t.Parallel()
			dir := unpackStore(t, archive)
			c := startCollector(t, harness.CollectorOptions{Store: dir})
			ask := func(codes string, args ...string) string {
				t.Helper()
				r, err := harness.Run(time.Minute, append([]string{binaries(t).Collector, args[0], "--store", dir}, args[1:]...)...)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(codes, string(rune('0'+r.Code))) {
					t.Errorf("%v: exit status %d:\n%s%s", args, r.Code, r.Stdout, r.Stderr)
				}
				return string(r.Stdout)
			}
			for _, host := range []string{"web1", "db1"} {
				if n := strings.Count(ask("0", "search", "-n", host, "--raw"), "node="+host+" "); n != 10 {
					t.Errorf("%d records of %s, not 10", n, host)
				}
				if text := ask("13", "coverage", "-n", host); !strings.HasPrefix(text, host+" ") {
					t.Errorf("coverage says nothing of %s: %q", host, text)
				}
				if text := ask("01", "hosts"); !strings.Contains(text, "\n"+host+" ") {
					t.Errorf("hosts does not have %s: %q", host, text)
				}
			}
			ask("0", "verify")
			if err := c.Proc.Terminate(time.Minute); err != nil {
				t.Error(err)
			}
			ask("0", "verify")
		})
	}
}
