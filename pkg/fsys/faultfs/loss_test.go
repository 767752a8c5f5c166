package faultfs

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"testing"
)

// Of two writes to one page, one to another page and a name that nobody has synced,
// every outcome comes once: 3 × 2 versions of the pages, the sizes, with name and without.
func TestEachLoss(t *testing.T) {
	f := New(1)
	f.KeepHistory()
	write := func(h interface {
		WriteAt([]byte, int64) (int, error)
	}, b byte, at int64) {
		t.Helper()
		if _, err := h.WriteAt(bytes.Repeat([]byte{b}, 10), at); err != nil {
			t.Fatal(err)
		}
	}
	h, err := f.OpenFile("/a", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	write(h, '-', 0)
	write(h, '-', Page)
	if err := h.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	write(h, '1', 0)
	write(h, '2', 0)
	write(h, '3', Page)
	if _, err := f.OpenFile("/b", os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	states, all := f.EachLoss(Page, 1000, rand.New(rand.NewSource(1)), func(after *FS) {
		h, err := after.OpenFile("/a", os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		var b [2]byte
		for i := range b {
			if _, err := h.ReadAt(b[i:i+1], int64(i)*Page); err != nil {
				t.Fatal(err)
			}
		}
		names, err := after.ReadDir("/")
		if err != nil {
			t.Fatal(err)
		}
		seen[fmt.Sprint(string(b[:]), names)] = true
	})
	if !all || len(seen) != 3*2*2 {
		t.Errorf("%d different of %d states, all of them: %v: %v", len(seen), states, all, seen)
	}
	// What programs see is as it was.
	if size, err := f.Size("/b"); err != nil || size != 0 {
		t.Error(size, err)
	}
	few, all := f.EachLoss(Sector, 5, rand.New(rand.NewSource(1)), func(*FS) {})
	if all || few != 5 {
		t.Errorf("%d states of at most 5, all of them: %v", few, all)
	}
}
