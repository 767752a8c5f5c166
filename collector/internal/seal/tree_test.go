package seal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func leafOf(batch uint64) *Leaf {
	return &Leaf{Kind: Batch, Store: [16]byte{7}, Part: "2026-11-22", Batch: batch, Events: batch, Hosts: []HostCount{{Name: "web1", Events: batch}}}
}

// makeTree makes a log with leaves of batches from 1 on, behind the first one.
func makeTree(t *testing.T, f fsys.FS, batches uint64) (*Tree, Options) {
	t.Helper()
	o := Options{FS: f, Store: t.TempDir(), ID: [16]byte{7}, Write: true}
	tree, err := Create(o, &Leaf{Kind: Begun, Store: o.ID})
	must(t, err)
	t.Cleanup(func() { _ = tree.Close() })
	for i := range batches {
		must(t, tree.Append(leafOf(i+1)))
	}
	return tree, o
}

// TestTree: roots and proofs are those of a tree that is computed otherwise, every leaf is found, and the
// same after it is opened again.
func TestTree(t *testing.T) {
	tree, o := makeTree(t, fsys.OS, 20)
	var r Roots
	_, _, err := Scan(o.Store, func(s *Scanned) error {
		r.Add(s.Hash)
		root, err := tree.Root(s.Index + 1)
		if err == nil && root != r.Root() {
			err = fmt.Errorf("root of %d leaves: %v, by another way %v", s.Index+1, root, r.Root())
		}
		return err
	})
	must(t, err)
	must(t, tree.Close())
	tree, err = Open(o)
	must(t, err)
	defer tree.Close()
	root, err := tree.Root(21)
	must(t, err)
	for batch := uint64(1); batch <= 20; batch++ {
		i, text, err := tree.Find(batch)
		must(t, err)
		proof, err := tree.Inclusion(i, 21)
		must(t, err)
		if err := tlog.CheckRecord(proof, 21, root, i, tlog.RecordHash(text)); err != nil || i != int64(batch) {
			t.Errorf("batch %d: leaf %d, %v", batch, i, err)
		}
	}
	for _, batch := range []uint64{0, 21, 1 << 40} {
		if _, _, err := tree.Find(batch); !errors.Is(err, ErrNoLeaf) {
			t.Errorf("batch %d: %v", batch, err)
		}
	}
}

// TestFindAfterRewind: after the store was put back, a batch's newest leaf is found.
func TestFindAfterRewind(t *testing.T) {
	tree, _ := makeTree(t, fsys.OS, 9)
	must(t, tree.Append(&Leaf{Kind: Rewound, First: 4, Batch: 9}))
	if tree.LastBatch() != 4 {
		t.Fatalf("the last batch is %d", tree.LastBatch())
	}
	must(t, tree.Append(leafOf(5)))
	for batch, want := range map[uint64]int64{4: 4, 5: 11, 8: 8} {
		if i, _, err := tree.Find(batch); err != nil || i != want {
			t.Errorf("batch %d: leaf %d, %v; want %d", batch, i, err, want)
		}
	}
}

// flaky is a filesystem of which one operation fails.
type flaky struct {
	fsys.FS
	op   string
	left int // operations until it fails; negative: none
	err  error
}

func (f *flaky) step(op string) error {
	if op != f.op || f.left < 0 {
		return nil
	}
	if f.left--; f.left < 0 {
		return f.err
	}
	return nil
}

func (f *flaky) OpenFile(name string, flag int, perm os.FileMode) (fsys.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil || strings.HasSuffix(name, reserveName) {
		return file, err
	}
	return flakyFile{file, f}, nil
}

type flakyFile struct {
	fsys.File
	f *flaky
}

func (f flakyFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.f.step("write"); err != nil {
		n, _ := f.File.WriteAt(b[:len(b)/2], off)
		return n, err
	}
	return f.File.WriteAt(b, off)
}

func (f flakyFile) Datasync() error {
	if err := f.f.step("sync"); err != nil {
		return err
	}
	return f.File.Datasync()
}

// TestAppendFails at each of its operations: what is added afterwards, by the same process or the next one, is there
// once, and the tree is that of a disk that never failed.
func TestAppendFails(t *testing.T) {
	good, _ := makeTree(t, fsys.OS, 6)
	want, err := good.Root(7)
	must(t, err)
	for _, op := range []string{"write", "sync"} {
		for n := range 3 {
			for _, again := range []bool{false, true} {
				f := &flaky{FS: fsys.OS, op: op, left: -1, err: syscall.EIO}
				tree, o := makeTree(t, f, 4)
				f.left = n
				if err := tree.Append(leafOf(5), leafOf(6)); !errors.Is(err, syscall.EIO) || tree.Size() != 5 {
					t.Fatalf("%s %d: %v, %d leaves", op, n, err, tree.Size())
				}
				if again {
					must(t, tree.Close())
					tree, err = Open(o)
					must(t, err)
				}
				for batch := tree.LastBatch() + 1; batch <= 6; batch++ {
					must(t, tree.Append(leafOf(batch)))
				}
				if got, err := tree.Root(7); err != nil || got != want || tree.Size() != 7 {
					t.Errorf("%s %d, opened again %v: %d leaves, %v", op, n, again, tree.Size(), err)
				}
				must(t, tree.Close())
			}
		}
	}
}

// TestReserve: on a full disk the log takes the room that it keeps, so that a day can be dropped.
func TestReserve(t *testing.T) {
	f := &flaky{FS: fsys.OS, op: "write", left: -1, err: syscall.ENOSPC}
	tree, o := makeTree(t, f, 1)
	path := filepath.Join(o.dir(), reserveName)
	if n, err := fsys.OS.Size(path); err != nil || n != reserveBytes {
		t.Fatalf("it keeps %d bytes, %v", n, err)
	}
	f.left = 0
	must(t, tree.Append(leafOf(2)))
	if _, err := os.Stat(path); !missing(err) {
		t.Errorf("the room is still kept: %v", err)
	}
	must(t, tree.Append(leafOf(3)))
	if n, err := fsys.OS.Size(path); err != nil || n != reserveBytes {
		t.Errorf("then it keeps %d bytes, %v", n, err)
	}
}

func FuzzMend(f *testing.F) {
	f.Add(uint8(0), uint16(40), uint8(1))
	f.Add(uint8(1), uint16(70), uint8(9))
	f.Fuzz(func(t *testing.T, which uint8, at uint16, mask uint8) {
		tree, o := makeTree(t, fsys.OS, 4)
		must(t, tree.Close())
		path := filepath.Join(o.dir(), []string{leavesName, hashesName, indexName}[which%3])
		b, err := os.ReadFile(path)
		must(t, err)
		b[int(at)%len(b)] ^= mask
		must(t, os.WriteFile(path, b, 0o600))
		if tree, err = Open(o); err != nil {
			if tree, _, err = Mend(o, func(batch uint64, _ *tlog.Hash) []byte { return leafOf(batch).Encode() }); err != nil {
				return
			}
		}
		for i := range tree.Size() {
			_, _ = tree.Text(i) // whatever it says, it ends
		}
		must(t, tree.Close())
	})
}
