package alert

import (
	"testing"
	"testing/synctest"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// A disk that hangs keeps nobody from being told of it, and from asking; the file has all once it goes on.
func TestHungDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		disk := faultfs.NewHang(fsys.OS)
		r.files = disk
		r.open(t)
		r.look(t, 1)
		disk.Freeze()
		r.col.Faults = []Fault{{Kind: "journal-hangs", Summary: "it hangs"}}
		r.look(t, 12)
		if len(r.told) != 1 || r.told[0].Notices[0].Labels["kind"] != "journal-hangs" {
			t.Fatalf("told %d groups", len(r.told))
		}
		if disk.Waiting() != 1 {
			t.Errorf("%d writes wait", disk.Waiting())
		}
		if l := r.List(); len(l) != 1 || r.failed != errHangs.Error() {
			t.Errorf("%d alerts; %q", len(l), r.failed)
		}
		disk.Thaw()
		r.col.Faults = nil
		r.look(t, 12)
		if r.failed != "" || r.dirty {
			t.Errorf("not saved: %q", r.failed)
		}
		r.open(t)
		if l := r.List(); len(l) != 1 || l[0].State != Resolved {
			t.Errorf("after a restart %v", l)
		}
	})
}
