package journal

import (
	"context"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// Whoever asks how the journal is waits for no write that does not return, and hears of it.
func TestStatsOfAHungDisk(t *testing.T) {
	t.Parallel()
	disk := faultfs.NewHang(fsys.OS)
	j, _ := start(t, Options{Dir: t.TempDir(), FS: disk}, Resume{})
	if err := put(t, j, batch(1, "first")); err != nil {
		t.Fatal(err)
	}
	before := j.Stats()
	if before.DiskBytes == 0 || before.FirstLSN != 1 || before.Hanging != 0 {
		t.Errorf("before: %+v", before)
	}
	disk.Freeze()
	done := make(chan error, 1)
	go func() { // it commits the batch itself, perhaps
		if err := j.Submit(context.Background(), batch(1, "second"), func(err error) { done <- err }); err != nil {
			done <- err
		}
	}()
	need.Wait(t, "a write that hangs", func() bool { return disk.Waiting() > 0 && j.Stats().Hanging > 0 })
	if s := j.Stats(); s.FirstLSN != before.FirstLSN || s.LastLSN != before.LastLSN || s.DiskBytes == 0 {
		t.Errorf("while it hangs: %+v", s)
	}
	disk.Thaw()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s := j.Stats(); s.Hanging != 0 || s.LastLSN != 2 || s.DiskBytes <= before.DiskBytes {
		t.Errorf("after: %+v", s)
	}
}
