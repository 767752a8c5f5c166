package bolt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/raw"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// TestImportCutShort has the process die between the transaction that stores an import's batch and the one that
// says that it was the last: the batch is there, its number is not used again, and its hosts' records are counted.
func TestImportCutShort(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{true, false} { // whether senders' batches are in the store
		dir, ctx := t.TempDir(), context.Background()
		s := open(t, Options{Dir: dir})
		day, id := store.DayOf(storetest.Start), uint64(0)
		if before {
			id++
			tab := store.NewTable()
			tab.Add("a", storetest.Parse("a", "type=USER_END msg=audit(1764000000.001:1): x=1"))
			must(t, s.Append(ctx, &store.Batch{ID: 1, Day: day, Events: tab, LSN: 5, Open: []uint64{4}, Hosts: []store.Host{{Name: "a", Records: 1, Bytes: 9}}}))
		}
		tab := store.NewTable()
		tab.Add("a", storetest.Parse("a", "type=USER_END msg=audit(1763000000.001:1): x=1"))
		tab.Add("b", storetest.Parse("b", "type=USER_END msg=audit(1763000000.001:1): x=1"))
		id++
		b := &store.Batch{ID: id, Day: day, Events: tab, Import: &store.Import{Name: "old", Note: []byte("n")}}
		if before {
			b.LSN, b.Open = 5, []uint64{4}
		}
		blob, sum, err := s.codec.Encode(tab)
		must(t, err)
		s.appendMu.Lock()
		_, err = s.putImport(b, blob, &sum, eventtree.Hash{})
		s.appendMu.Unlock()
		must(t, err)
		if n := len(storetest.Collect(t, s, &query.Query{})); n != int(id)-1 {
			t.Errorf("before it is the last batch a search finds %d events", n)
		}
		must(t, s.Close())
		for range 2 { // found, and kept
			s = open(t, Options{Dir: dir})
			st, err := s.State(ctx)
			must(t, err)
			records := map[string]uint64{}
			for _, h := range st.Hosts {
				records[h.Name] = h.Records
			}
			if st.ID != id || st.LSN != b.LSN || len(st.Open) != len(b.Open) || records["a"] != id || records["b"] != 1 {
				t.Errorf("state %+v, records %v", st, records)
			}
			if n := len(storetest.Collect(t, s, &query.Query{})); n != int(id)+1 {
				t.Errorf("%d events", n)
			}
			must(t, s.Close())
		}
		s = open(t, Options{Dir: dir})
		_, err = s.UndoImport(ctx, "old", "a test")
		must(t, err)
		must(t, s.Close())
		s = open(t, Options{Dir: dir})
		st, err := s.State(ctx)
		must(t, err)
		if st.ID != id || st.LSN != b.LSN {
			t.Errorf("after it was taken back: %+v", st)
		}
		if v, err := layout.ReadMarker(dir, true); err != nil || v != layout.ImportVersion {
			t.Errorf("version %d, %v", v, err)
		}
	}
}

// TestImportDamaged damages a partition of an import: what is readable of it stays the import's.
func TestImportDamaged(t *testing.T) {
	t.Parallel()
	dir, ctx := t.TempDir(), context.Background()
	s := open(t, Options{Dir: dir})
	day := store.DayOf(storetest.Start)
	for id := uint64(1); id <= 3; id++ {
		tab := store.NewTable()
		tab.Add("a", storetest.Parse("a", "type=USER_END msg=audit(1763000000.001:1): x=1"))
		must(t, s.Append(ctx, &store.Batch{ID: id, Day: day, Events: tab, Import: &store.Import{Name: "old", Note: []byte("n")}}))
	}
	must(t, s.Close())
	path := layout.PartitionPath(dir, store.Part{Day: day, N: 1})
	db, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error { // one batch is gone, and of another one only the index
		return errors.Join(tx.Bucket(layout.BucketGroups).DeleteBucket(layout.GroupKey(2)), tx.Bucket(layout.BucketCatalog).Put(layout.GroupKey(3), []byte("none")))
	}))
	must(t, db.Close())
	s = open(t, Options{Dir: dir})
	if len(s.Missing()) == 0 {
		t.Error("nothing is missing")
	}
	tab := store.NewTable()
	tab.Add("a", storetest.Parse("a", "type=USER_END msg=audit(1763000000.001:1): x=1"))
	must(t, s.Append(ctx, &store.Batch{ID: 4, Day: day, Events: tab, Import: &store.Import{Name: "old", Note: []byte("n")}}))
	must(t, s.Close())
	aside, err := filepath.Glob(path + ".corrupt-*")
	must(t, err)
	for _, name := range aside {
		must(t, os.Remove(name))
	}
	s = open(t, Options{Dir: dir})
	list, err := s.Imports(ctx)
	if err != nil || len(list) != 1 || !list[0].Lacks || len(s.Missing()) > 0 {
		t.Errorf("once what was set aside is removed: %+v, %v, missing %v", list, err, s.Missing())
	}
	if rep, err := raw.Open(path, store.Part{Day: day, N: 1}, false); err != nil || len(rep.Findings) > 0 || !rep.Lacks {
		t.Errorf("%+v, %v", rep, err)
	} else {
		must(t, rep.Close())
	}
}
