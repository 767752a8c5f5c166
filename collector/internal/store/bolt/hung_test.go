package bolt

import (
	"context"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Searches, sizes and what is missing wait for no day that is being dropped on a disk that hangs.
func TestDropOnAHungDisk(t *testing.T) {
	t.Parallel()
	for _, name := range []string{manifest.Name, "leaves"} {
		t.Run(name, func(t *testing.T) { dropHung(t, name) })
	}
}

func dropHung(t *testing.T, name string) {
	disk := faultfs.NewHang(fsys.OS)
	disk.Only = name
	s := open(t, Options{Dir: made(t, 8), fs: disk})
	count := func() (n int) {
		t.Helper()
		sn, err := s.Snapshot(t.Context())
		must(t, err)
		must(t, sn.Scan(t.Context(), &query.Query{}, func(*event.Event) error { n++; return nil }))
		must(t, sn.Close())
		return n
	}
	sizes := func() store.Stats {
		t.Helper()
		st, err := s.Stats(t.Context())
		must(t, err)
		return st
	}
	before, all := sizes(), count()
	part := before.Parts[0]
	disk.Freeze()
	done := make(chan error, 1)
	go func() { done <- s.Drop(context.Background(), part.Part, "a test") }()
	need.Wait(t, "a write that hangs", func() bool { return disk.Waiting() > 0 })
	if n := count(); n != all {
		t.Errorf("%d events, there were %d", n, all)
	}
	if n := len(sizes().Parts); n != len(before.Parts) || len(s.Missing()) != 0 {
		t.Errorf("%d parts, %d before; missing: %v", n, len(before.Parts), s.Missing())
	}
	disk.Thaw()
	must(t, <-done)
	if n := count(); n != all-int(part.Events) {
		t.Errorf("%d events are left of %d, %d were dropped", n, all, part.Events)
	}
}
