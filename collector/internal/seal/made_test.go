package seal

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// leavesRead is a filesystem that calls fn before each read of leaves.
type leavesRead struct {
	fsys.FS
	fn func()
}

func (f *leavesRead) OpenFile(name string, flag int, perm os.FileMode) (fsys.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil || filepath.Base(name) != leavesName {
		return file, err
	}
	return leavesFile{file, f}, nil
}

type leavesFile struct {
	fsys.File
	of *leavesRead
}

func (f leavesFile) ReadAt(b []byte, off int64) (int, error) {
	if f.of.fn != nil {
		f.of.fn()
	}
	return f.File.ReadAt(b, off)
}

// Who appends waits until some leaves are looked at for how a partition was made, not until all are.
func TestLookBesideAppend(t *testing.T) {
	disk := &leavesRead{FS: fsys.OS}
	tree, _ := makeTree(t, disk, 0)
	var texts [][]byte
	for i := range uint64(3 * rowLeaves) {
		texts = append(texts, leafOf(i+1).Encode())
	}
	must(t, tree.AppendTexts(texts))
	must(t, tree.Append(rewrittenLeaf()))
	before, seen := tree.Size(), int64(0)
	done := make(chan error, 1)
	disk.fn = func() { // mu is held to read
		if seen == 0 {
			go func() { done <- tree.Append(leafOf(3*rowLeaves + 1)) }()
			for tree.mu.TryRLock() { // it waits for mu soon
				tree.mu.RUnlock()
				runtime.Gosched()
			}
		}
		seen = tree.size
	}
	index, _, _, err := tree.MadeBy("2026-11-22.3")
	disk.fn = nil
	must(t, err)
	must(t, <-done)
	if index != before-1 || seen == before {
		t.Errorf("leaf %d of %d; %d when the last one was read", index, before, seen)
	}
}
