package upkeep

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// TestVerifyReadsTheLog: verify without a checkpoint finds what does not fit in the log of what was stored.
func TestVerifyReadsTheLog(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	s.open(s.dir, s.fill)
	s.open(s.dir, func(st *bolt.Store) { s.add(st, 2) })
	verified := func(dir string) string {
		t.Helper()
		rep, err := Verify(context.Background(), VerifyOptions{Dir: dir})
		must(t, err)
		var list []string
		for _, d := range rep.Damage {
			if !strings.Contains(d, "are counted") && !strings.Contains(d, "journal") { // the test's batches count no hosts
				list = append(list, d)
			}
		}
		return strings.Join(list, "\n")
	}
	if got := verified(s.dir); strings.Contains(got, seal.Dir) || strings.Contains(got, "group") {
		t.Errorf("nothing is wrong, and it says %s", got)
	}
	in := func(dir, name string) string { return filepath.Join(dir, seal.Dir, name) }
	for name, c := range map[string]struct {
		do   func(dir string)
		want string
	}{
		"the log is gone":            {func(dir string) { must(t, os.RemoveAll(filepath.Join(dir, seal.Dir))) }, "is not there"},
		"a file of it is gone":       {func(dir string) { must(t, os.Remove(in(dir, "hashes"))) }, "hashes is not there"},
		"a leaf's byte":              {func(dir string) { flip(t, in(dir, "leaves"), 80, 1) }, "the checksum of the leaf"},
		"a leaf with its checksum":   {func(dir string) { editText(t, dir, 2) }, "leaf 2 is not what its hash was made of"},
		"a hash":                     {func(dir string) { flip(t, in(dir, "hashes"), 32, 1) }, "leaf 0 is not what its hash was made of"},
		"the hash of a subtree":      {func(dir string) { flip(t, in(dir, "hashes"), 32+2*32, 1) }, "the hash of the subtree of height 1 that ends with leaf 1"},
		"where a leaf begins":        {func(dir string) { flip(t, in(dir, "index"), 32+16, 1) }, "leaf 1 is said to begin"},
		"up to which batch":          {func(dir string) { flip(t, in(dir, "index"), 32+16*2+8, 1) }, "leaf 2 is said to be up to batch"},
		"the files cut":              {func(dir string) { cutLog(t, dir, 4, false) }, "the log has 4 leaves, and had"},
		"the files cut, more behind": {func(dir string) { cutLog(t, dir, 8, true); cutLogMore(t, dir) }, "are not those that were signed"},
		"a checkpoint": {func(dir string) {
			text, err := os.ReadFile(in(dir, "checkpoints"))
			must(t, err)
			must(t, os.WriteFile(in(dir, "checkpoints"), append([]byte("x\ny\n\n— z\n\n"), text...), 0o600))
		}, "checkpoints: number 1: not a checkpoint"},
		"a group written again": {func(dir string) {
			edit(t, dir, 0, func(tx *bbolt.Tx) error { return regroup(t, tx, 2, func(i int, _ *event.Event) bool { return i != 3 }) })
		}, "group 2 is not what it was when it was stored"},
	} {
		dir := s.copyOf()
		c.do(dir)
		if got := verified(dir); !strings.Contains(got, c.want) {
			t.Errorf("%s: it says\n%s\nwithout %q", name, got, c.want)
		}
	}
}

// cutLogMore has the log as many leaves as before.
func cutLogMore(t *testing.T, dir string) {
	t.Helper()
	for range 4 {
		appendLeaf(t, dir, &seal.Leaf{Kind: seal.Accepted})
	}
}
