package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// TestSentIsSynced: of a source that is read again after a crash a Reader returns only what a power loss can't take:
// what was sent is there afterwards under the same sequence id, or it would be read, and sent, again as
// another record. The syncer does not wait for its tick then. Of other sources a Reader returns records at once.
func TestSentIsSynced(t *testing.T) {
	t.Parallel()
	type sent struct {
		seq  uint32
		line string
	}
	for seed := int64(1); seed <= 40; seed++ {
		fs := faultfs.New(seed)
		o := Options{FS: fs, Dir: dir, SyncInterval: time.Hour, SegmentBytes: 16 << 10, MaxBytes: 64 << 20}
		s, _, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		fs.CutPower(int(seed * 3)) // somewhere on the way
		var out []sent
		n := 0
		for r := s.Reader(); n < 400; {
			if s.Append(fmt.Append(nil, n), fmt.Appendf(nil, "record %d", n), fmt.Appendf(nil, "record %d, and more", n)) != nil {
				break
			}
			n++
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond) // without power nothing is synced any more
			_ = r.Wait(ctx)
			cancel()
			for {
				index, seq, line, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if synced := s.log.Synced(); index > synced {
					t.Fatalf("seed %d: record %d is returned, %d are synced", seed, index, synced)
				}
				out = append(out, sent{seq, string(line)})
			}
		}
		_ = s.Close() // the machine is gone
		fs.Crash()
		if s, _, err = Open(o); err != nil {
			t.Fatal(err)
		}
		r := s.Reader()
		for i, want := range out {
			_, seq, line, err := r.Next()
			if got := (sent{seq, string(line)}); err != nil || got != want {
				t.Fatalf("seed %d: of %d records that were sent number %d is %v after the power loss, was %v (%v)", seed, len(out), i, got, want, err)
			}
		}
		must(t, s.Append([]byte{}, []byte("of a source that can't be read again")))
		for found := false; !found; {
			_, _, line, err := r.Next()
			if err != nil {
				t.Fatalf("seed %d: it has to wait: %v", seed, err)
			}
			found = string(line) == "of a source that can't be read again"
		}
		must(t, s.Close())
	}
}
