package bolt

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
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

// Nobody who asks for what there is waits for an import's partition whose disk hangs: its file stays locked for as long.
func TestImportOnAHungDisk(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: made(t, 4)})
	tab := store.NewTable()
	tab.Add("a", storetest.Parse("a", "type=USER_END msg=audit(1763000000.001:1): x=1"))
	must(t, s.Append(t.Context(), &store.Batch{ID: 5, Day: store.DayOf(storetest.Start), Events: tab, Import: &store.Import{Name: "old", Note: []byte("n")}}))
	list, err := s.importParts("old")
	must(t, err)
	list[0].mu.Lock() // as one has it that waits for a transaction
	done := make(chan error, 1)
	go func() {
		s.dueNow(&store.Compaction{ImportAfter: time.Nanosecond, Today: true})
		_, err := s.Stats(context.Background())
		if err := s.Drop(context.Background(), list[0].part, "a test"); !errors.Is(err, store.ErrInUse) {
			t.Errorf("what is being imported is dropped: %v", err)
		}
		done <- err
	}()
	need.Wait(t, "an answer", func() bool { return len(done) > 0 })
	list[0].mu.Unlock()
	must(t, <-done)
}
