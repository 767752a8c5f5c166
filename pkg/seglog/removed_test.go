package seglog

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// What is synced after a segment was deleted beneath the log is there at the next start;
// where no other can be made, Sync fails.
func TestRemovedBeneath(t *testing.T) {
	o := Options{FS: fsys.OS, Dir: filepath.Join(t.TempDir(), "log"), Kind: "test", Preallocate: PreallocateNone, WatchRemoved: true}
	l, _ := mustOpen(t, o)
	put := func(text string) error {
		if _, err := l.Append([]byte(text)); err != nil {
			return err
		}
		return l.Sync()
	}
	must(t, put("one"))
	files, err := filepath.Glob(filepath.Join(o.Dir, "*.seg"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	must(t, os.Remove(files[0]))
	must(t, put("two"))
	must(t, put("three"))
	must(t, l.Close())
	l, _ = mustOpen(t, o)
	r, err := l.Reader(l.First())
	must(t, err)
	for _, want := range []string{"two", "three"} {
		if _, b, err := r.Next(); err != nil || string(b) != want {
			t.Errorf("%q, %v; want %q", b, err, want)
		}
	}
	must(t, r.Close())
	must(t, put("four"))
	must(t, os.RemoveAll(o.Dir))
	if err := put("five"); !errors.Is(err, ErrFailed) {
		t.Errorf("without a folder: %v", err)
	}
	_ = l.Close()
}
