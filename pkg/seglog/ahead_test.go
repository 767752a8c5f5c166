package seglog

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// TestZeroesAhead: small appends find blocks that were written before, large ones do without, and what a crash leaves of both is
// read as if there were none.
func TestZeroesAhead(t *testing.T) {
	o := Options{FS: fsys.OS, Dir: filepath.Join(t.TempDir(), "log"), Kind: "test", SegmentBytes: 4 * aheadBytes}
	l, _ := mustOpen(t, o)
	var want [][]byte
	put := func(n int) {
		t.Helper()
		entry := bytes.Repeat([]byte{byte('a' + len(want)%26)}, n)
		want = append(want, entry)
		_, err := l.Append(entry)
		must(t, err)
		must(t, l.SyncAside())
	}
	put(100)
	first := l.zeroedTo
	if end := l.active.end.Load(); first != end+aheadBytes {
		t.Errorf("zeroes up to %d behind an end at %d", first, end)
	}
	put(aheadBelow)
	put(200)
	if l.zeroedTo != first {
		t.Errorf("zeroes up to %d, they were up to %d", l.zeroedTo, first)
	}
	put(2 * aheadBytes)
	if l.zeroedTo != first {
		t.Error("zeroes behind a large append")
	}
	put(300)
	if l.zeroedTo != o.SegmentBytes && l.zeroedTo != l.active.end.Load()+aheadBytes {
		t.Errorf("zeroes up to %d of %d", l.zeroedTo, o.SegmentBytes)
	}
	for range 10 {
		put(aheadBytes / 2) // into other segments
		put(7)
	}
	crashed := filepath.Join(t.TempDir(), "crashed")
	must(t, os.CopyFS(crashed, os.DirFS(o.Dir)))
	must(t, l.Close())
	for _, dir := range []string{crashed, o.Dir} {
		o.Dir = dir
		l, rec := mustOpen(t, o)
		if !rec.Clean() {
			t.Errorf("%s: %v", dir, rec)
		}
		r, err := l.Reader(l.First())
		must(t, err)
		for i := range want {
			if _, b, err := r.Next(); err != nil || !bytes.Equal(b, want[i]) {
				t.Fatalf("%s: entry %d: %d bytes, %v; want %d", dir, i, len(b), err, len(want[i]))
			}
		}
		must(t, r.Close())
		must(t, l.Close())
	}
}
