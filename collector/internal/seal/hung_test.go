package seal

import (
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// Who reads the log waits for no write to it that does not return.
func TestReadBesideAHungWrite(t *testing.T) {
	disk := faultfs.NewHang(fsys.OS)
	tree, _ := makeTree(t, disk, 3)
	disk.Freeze()
	done := make(chan error, 1)
	go func() { done <- tree.Append(leafOf(4)) }()
	need.Wait(t, "a write that hangs", func() bool { return disk.Waiting() > 0 })
	if n, batch := tree.Size(), tree.LastBatch(); n != 4 || batch != 3 {
		t.Errorf("%d leaves, the last of batch %d", n, batch)
	}
	_, err := tree.Root(4)
	must(t, err)
	_, err = tree.Inclusion(2, 4)
	must(t, err)
	if _, _, err := tree.Find(3); err != nil {
		t.Error(err)
	}
	disk.Thaw()
	must(t, <-done)
	if n, batch := tree.Size(), tree.LastBatch(); n != 5 || batch != 4 {
		t.Errorf("%d leaves, the last of batch %d", n, batch)
	}
}
