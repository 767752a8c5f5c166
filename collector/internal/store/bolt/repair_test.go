package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/pages"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
)

// pageOf finds a page of a partition: the freelist's, or the first of a bucket's tree.
func pageOf(t *testing.T, path, what string) int64 {
	t.Helper()
	if what == "freelist" {
		return freelistOf(t, path)
	}
	f, err := pages.Open(path)
	must(t, err)
	defer f.Close()
	page := int64(-1)
	must(t, f.ReadTree(func(tree *pages.Tree) error {
		tree.Walk(func(e *pages.Elem) {
			switch {
			case what == "root":
				page = int64(e.Page)
			case string(e.Key) != what:
			case e.Value[0] != 0:
				page = int64(e.Value[0]) | int64(e.Value[1])<<8
			default:
				page = int64(e.Page) // within the root's
			}
		})
		return nil
	}))
	if page < 2 {
		t.Fatalf("page of %s: %d", what, page)
	}
	return page
}

// freelistOf is the page of the list of free pages, by the newer meta page.
func freelistOf(t *testing.T, path string) int64 {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	u64 := binary.LittleEndian.Uint64
	meta := b[16:]
	if next := b[os.Getpagesize()+16:]; u64(next[48:]) > u64(meta[48:]) {
		meta = next
	}
	return int64(u64(meta[32:]))
}

func wipe(t *testing.T, path string, page int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, 4096), page*4096); err != nil {
		t.Fatal(err)
	}
}

// TestDamageUnderTheWriter wipes pages of the partition being written, beneath an
// open store and between two starts. The next batch is stored all the same; what
// was readable before is there, or missed aloud.
func TestDamageUnderTheWriter(t *testing.T) {
	t.Parallel()
	day := store.DayOf(storetest.Start) + 1
	for _, what := range []string{"freelist", "groups", "catalog", "hosts", "root"} {
		for _, closed := range []bool{false, true} {
			name := what + ", open"
			if closed {
				name = what + ", between two starts"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "store")
				s := open(t, Options{Dir: dir})
				fill(t, s, 1, 4)
				path := filepath.Join(dir, layout.Partitions, day.String()+layout.Suffix)
				if closed {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
				}
				wipe(t, path, pageOf(t, path, what))
				if closed {
					s = open(t, Options{Dir: dir})
				}
				next := uint64(5)
				if closed { // the place of an earlier day, when that of the last is lost
					st, err := s.State(context.Background())
					if err != nil {
						t.Fatal(err)
					}
					next = st.ID + 1
				}
				tab := store.NewTable()
				storetest.Fill(tab, storetest.NewGenerator(99, storetest.Templates(t), 3, storetest.Start), 60)
				b := &store.Batch{ID: next, Day: day, Events: tab, LSN: 1000, Senders: []store.KV{{Key: []byte("k"), Value: []byte("w")}}}
				if err := s.Append(context.Background(), b); err != nil {
					t.Fatalf("the next batch: %v", err)
				}
				n, err := count(s)
				if n != 300 && !errors.Is(err, store.ErrDamaged) {
					t.Errorf("%d events and no word of damage, want 300: %v", n, err)
				}
				if n < 180 { // yesterday's and the new ones
					t.Errorf("%d events", n)
				}
				if what == "freelist" && n != 300 {
					t.Errorf("%d events, though no page of theirs was hit", n)
				}
				aside, _ := filepath.Glob(path + ".corrupt-*")
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, Options{Dir: dir})
				if again, _ := count(s); again != n && len(aside) > 0 {
					t.Errorf("%d events after a restart, %d before", again, n)
				}
				t.Logf("%d events, %d files set aside", n, len(aside))
			})
		}
	}
}
