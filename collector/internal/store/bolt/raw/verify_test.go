package raw_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/raw"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made is a store of some batches of 60 events, two a day.
func made(t testing.TB, batches int) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "store")
	s, err := bolt.Open(bolt.Options{Dir: dir})
	must(t, err)
	g := storetest.NewGenerator(1, storetest.Templates(t), 3, storetest.Start)
	for i := range batches {
		tab := store.NewTable()
		storetest.Fill(tab, g, 60)
		b := &store.Batch{ID: uint64(i + 1), Day: store.DayOf(storetest.Start) + store.Day(i/2), Events: tab, LSN: uint64(100 * (i + 1)),
			Hosts: []store.Host{{Name: "web1", Records: 7}}, Senders: []store.KV{{Key: []byte("k"), Value: []byte("v")}}}
		must(t, s.Append(context.Background(), b))
	}
	must(t, s.Close())
	return dir
}

// FuzzPartitionFile patches a partition's file: whatever is there, reading it page
// by page neither panics nor runs away, and what was not hit is read.
func FuzzPartitionFile(f *testing.F) {
	dir := made(f, 2)
	day := store.Part{Day: store.DayOf(storetest.Start), N: 1}
	whole, err := os.ReadFile(filepath.Join(dir, layout.Partitions, day.String()+layout.Suffix))
	if err != nil {
		f.Fatal(err)
	}
	v, err := raw.NewVerifier(1)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { v.Close() })
	clean, err := v.Partition(context.Background(), filepath.Join(dir, layout.Partitions, day.String()+layout.Suffix), day)
	if err != nil || len(clean.Findings) > 0 || clean.Events == 0 {
		f.Fatalf("%+v, %v", clean, err)
	}
	used := 0
	for i, c := range whole {
		if c != 0 {
			used = i + 1
		}
	}
	f.Add(uint32(16), []byte{0xff, 0xff}, uint32(5000), []byte{1})
	f.Add(uint32(4096*3+8), []byte{1, 0, 200, 0, 9}, uint32(4096*4), []byte("AFGROUP\x00"))
	f.Fuzz(func(t *testing.T, at uint32, a []byte, bt uint32, b []byte) {
		bad := append([]byte(nil), whole[:used]...)
		copy(bad[int(at)%used:], a)
		copy(bad[int(bt)%used:], b)
		path := filepath.Join(t.TempDir(), day.String()+layout.Suffix)
		if err := os.WriteFile(path, append(bad, make([]byte, len(whole)-used)...), 0o600); err != nil {
			t.Fatal(err)
		}
		rep, err := v.Partition(context.Background(), path, day)
		if err == nil && len(rep.Findings) == 0 && rep.Events != clean.Events {
			t.Errorf("%d events of %d and nothing is said", rep.Events, clean.Events)
		}
	})
}

// A catalogue that says more than a whole group has is wrong, and nothing is lost.
func TestCatalogueSaysMore(t *testing.T) {
	t.Parallel()
	dir := made(t, 1)
	path := layout.PartitionPath(dir, store.Part{Day: store.DayOf(storetest.Start), N: 1})
	db, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error {
		bkt := tx.Bucket(layout.BucketCatalog)
		k, v := bkt.Cursor().First()
		sum, err := group.DecodeSummary(v)
		if err != nil {
			return err
		}
		sum.Events += 1 << 21
		return bkt.Put(k, sum.Encode())
	}))
	must(t, db.Close())
	v, err := raw.NewVerifier(1)
	must(t, err)
	defer v.Close()
	rep, err := v.Partition(context.Background(), path, store.Part{Day: store.DayOf(storetest.Start), N: 1})
	must(t, err)
	if len(rep.Findings) != 1 || rep.Events != 60 || rep.Catalogued != 60 {
		t.Errorf("%d of %d events are readable: %v", rep.Events, rep.Catalogued, rep.Findings)
	}
}
