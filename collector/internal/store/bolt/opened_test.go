package bolt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// openIn counts the partitions of a store that this process has open.
func openIn(t *testing.T, dir string) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, e := range list {
		if to, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil && strings.HasPrefix(to, filepath.Join(dir, layout.Partitions)) {
			n++
		}
	}
	return n
}

// A store with more partitions than may be open is as any other.
func TestContractFewOpen(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the contract once more: TestContract has it")
	}
	storetest.Events(t, storetest.Env{
		Open: func(t *testing.T) store.Store { return open(t, Options{Dir: t.TempDir(), MaxOpen: 1}) },
		Reopen: func(t *testing.T, s store.Store) store.Store {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, Options{Dir: s.(*Store).opts.Dir, MaxOpen: 1})
		},
	})
}

// However many partitions there are, few have their files open; searches find all, also
// of one that was closed and is dropped meanwhile.
func TestFewOpen(t *testing.T) {
	t.Parallel()
	const most = 3
	dir := made(t, 40) // of 20 days
	for _, ro := range []bool{true, false} {
		s := open(t, Options{Dir: dir, ReadOnly: ro, MaxOpen: most})
		for _, reverse := range []bool{false, true} {
			n, high := 0, 0
			sn, err := s.Snapshot(context.Background())
			must(t, err)
			must(t, sn.Scan(context.Background(), &query.Query{Reverse: reverse}, func(*event.Event) error {
				if n++; n%need.Size(1, 40) == 0 {
					high = max(high, openIn(t, dir))
				}
				return nil
			}))
			must(t, sn.Close())
			if n != 40*60 || high > most+2 { // what is being read is not closed
				t.Errorf("read-only %v: %d events, %d files open", ro, n, high)
			}
		}
		if n := openIn(t, dir); n > most+1 {
			t.Errorf("read-only %v: %d files are open", ro, n)
		}
		if ro {
			must(t, s.Close())
			continue
		}
		sn, err := s.Snapshot(context.Background())
		must(t, err)
		was, err := s.Stats(context.Background())
		must(t, err)
		for i := range 15 {
			must(t, s.Drop(context.Background(), store.Part{Day: store.DayOf(storetest.Start) + store.Day(i), N: 1}, "max_days = 1"))
		}
		n := 0
		must(t, sn.Scan(context.Background(), &query.Query{}, func(*event.Event) error { n++; return nil }))
		// What the snapshot keeps on the disk is told as long as it does.
		read, err := s.Stats(context.Background())
		must(t, err)
		must(t, sn.Close())
		over, err := s.Stats(context.Background())
		must(t, err)
		if read.Lingering == 0 || read.Lingering != was.DiskBytes-read.DiskBytes || was.Lingering+over.Lingering != 0 {
			t.Errorf("%d bytes linger of %d that were dropped, %d before and %d afterwards", read.Lingering, was.DiskBytes-read.DiskBytes, was.Lingering, over.Lingering)
		}
		if left, err := count(s); n != 40*60 || left != 10*60 || err != nil {
			t.Errorf("%d events in the snapshot, %d after 15 days were dropped: %v", n, left, err)
		}
	}
}

// A partition that can't be opened for a reason that is not in it is not set aside.
func TestNotDamaged(t *testing.T) {
	t.Parallel()
	dir := made(t, 4)
	path := partPath(dir, 0)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	must(t, err)
	_, err = Open(Options{Dir: dir, LockTimeout: -1})
	must(t, db.Close())
	if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("a partition that another program has: %v", err)
	}
	if os.Getuid() != 0 {
		must(t, os.Chmod(path, 0))
		if _, err = Open(Options{Dir: dir, LockTimeout: -1}); !errors.Is(err, os.ErrPermission) {
			t.Errorf("a partition that may not be read: %v", err)
		}
		must(t, os.Chmod(path, 0o600))
	}
	if n, err := count(open(t, Options{Dir: dir})); n != 4*60 || err != nil {
		t.Errorf("afterwards %d events: %v", n, err)
	}
}
