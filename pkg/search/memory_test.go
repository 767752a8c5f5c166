package search

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// measured is the variable by which this program, run again, does one search and
// says on stderr how much memory it took at most. It has what to search for,
// a line each.
const measured = "AUDITFLEET_MEASURED_SEARCH"

func measuredSearch(args string) int {
	code := ours(context.Background(), strings.Split(args, "\n"), utcEnv, "", Stdio{Out: os.Stdout, Err: os.Stderr})
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for line := range bytes.Lines(status) {
		if bytes.HasPrefix(line, []byte("VmHWM:")) {
			_, _ = os.Stderr.Write(line)
		}
	}
	return code
}

// countWriter counts what is written to it.
type countWriter int64

func (c *countWriter) Write(p []byte) (int, error) {
	*c += countWriter(len(p))
	return len(p), nil
}

// repeated writes a log of at least size bytes: recorded events over and over, each
// time with later times and serials of their own.
func repeated(t *testing.T, path string, size int64) (written int64) {
	t.Helper()
	text, err := os.ReadFile("testdata/kernel-raw.log")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const stamp = "msg=audit("
	for i := 0; written < size; i++ {
		var out bytes.Buffer
		for line := range bytes.Lines(text) {
			head, rest, _ := strings.Cut(string(line), stamp)
			_, rest, _ = strings.Cut(rest, ":")
			fmt.Fprintf(&out, "%s%s%d.000:%d%s", head, stamp, 1700000000+i*3600, i, rest)
		}
		n, err := f.Write(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		written += int64(n)
	}
	return written
}

// TestMemoryOfSearch searches a log of several times the memory that it may take.
func TestMemoryOfSearch(t *testing.T) {
	if testing.Short() {
		t.Skip("a log of 256 MiB")
	}
	const limit = 64 << 20
	path := t.TempDir() + "/audit.log"
	size := repeated(t, path, 4*limit)
	for _, opts := range [][]string{{"--raw"}, {"--raw", "--reverse"}, {"--raw", "--reverse", "--limit=10"}} {
		args := append([]string{"-if", path}, opts...)
		cmd := exec.Command(os.Args[0])
		// The collector of garbage runs often, so that what counts is what is in use;
		// pieces of the log are in use for each core.
		cmd.Env = append(os.Environ(), measured+"="+strings.Join(args, "\n"), "GOGC=25", "GOMAXPROCS=2", "TMPDIR="+t.TempDir())
		var out countWriter
		var errb bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errb
		if err := cmd.Run(); err != nil {
			t.Fatalf("%q: %v: %s", opts, err, errb.Bytes())
		}
		var peak int64 // in kB
		if _, err := fmt.Sscanf(errb.String(), "VmHWM: %d kB", &peak); err != nil {
			t.Fatalf("%q: %v: %s", opts, err, errb.Bytes())
		}
		if len(opts) < 3 && int64(out) < size {
			t.Errorf("%q: %d of %d bytes came out", opts, out, size)
		}
		t.Logf("%q: %d MiB at most", opts, peak>>10)
		if peak<<10 > limit {
			t.Errorf("%q: %d MiB, want at most %d", opts, peak>>10, limit>>20)
		}
	}
}
