package logscan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"

	"github.com/auditfleet/auditfleet/pkg/record"
)

// serials reads the serials of all records of a folder's logs.
func serials(t *testing.T, dir string) (all []uint64, err error) {
	t.Helper()
	in := Input{Path: dir, Notes: &bytes.Buffer{}}
	logs, err := in.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	err = logs.Records(context.Background(), func(r *record.Record) error {
		all = append(all, r.Serial)
		return nil
	})
	return all, err
}

// TestRecords has the records in the order of the logs, also where the clock was set back, of
// rotated and compressed logs; what is no record is left out, and of an overlong line what
// stands behind its end.
func TestRecords(t *testing.T) {
	dir := t.TempDir()
	line := func(sec, serial int) string {
		return fmt.Sprintf("type=USER_LOGIN msg=audit(%d.000:%d): pid=1\n", sec, serial)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(line(1000, 1) + line(2000, 2)))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	write("audit.log.1", packed.String())
	long := strings.TrimSuffix(line(600, 5), "\n") + strings.Repeat("x", 2*chunkBytes) + "\n"
	write("audit.log", line(500, 3)+"----\n\n"+line(1500, 4)+long+strings.TrimSuffix(line(700, 6), "\n"))
	got, err := serials(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]uint64{1, 2, 3, 4, 5, 6}, got); d != "" {
		t.Error(d)
	}
	// Of a log that is damaged, what comes before the damage, and an error.
	write("audit.log.1", packed.String()[:packed.Len()-4])
	got, err = serials(t, dir)
	if len(got) != 6 || err == nil || !strings.Contains(err.Error(), "audit.log.1") {
		t.Errorf("%v, %v", got, err)
	}
}

// TestRecordsEnd ends with the error of the function that gets them, and with the context's.
func TestRecordsEnd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte(strings.Repeat("type=LOGIN msg=audit(1.000:1): pid=1\n", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	in := Input{Path: file}
	read := func(ctx context.Context, fn func(*record.Record) error) error {
		logs, err := in.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer logs.Close()
		return logs.Records(ctx, fn)
	}
	stop := errors.New("enough")
	if err := read(context.Background(), func(*record.Record) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	err := read(ctx, func(*record.Record) error { n++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || n == 5000 {
		t.Errorf("%v after %d records", err, n)
	}
}
