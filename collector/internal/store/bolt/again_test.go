package bolt

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
)

// TestCommittedAndNotTold: a batch whose transaction is on the disk though its last sync said otherwise is stored by the next try, once, and
// so are those behind it.
func TestCommittedAndNotTold(t *testing.T) {
	t.Parallel()
	day, ctx := store.DayOf(storetest.Start), context.Background()
	files := func(dir string, lost bool) (out map[string]string) {
		s := open(t, Options{Dir: dir})
		for id := uint64(1); id <= 4; id++ {
			tab := store.NewTable()
			storetest.Fill(tab, storetest.NewGenerator(id, storetest.Templates(t), 3, storetest.Start), 60)
			b := &store.Batch{ID: id, Day: day + store.Day(id/3), Events: tab, LSN: 100 * id, Open: []uint64{100*id - 1}, Hosts: []store.Host{{Name: "a", Records: id}}}
			if lost {
				blob, sum, err := s.codec.Encode(b.Events)
				must(t, err)
				s.appendMu.Lock()
				_, err = s.put(b, blob, &sum, eventtree.Hash{}, nil)
				s.appendMu.Unlock()
				must(t, err)
			}
			must(t, s.Append(ctx, b))
		}
		n, err := count(s)
		must(t, err)
		if n != 240 {
			t.Errorf("%d events, want 240", n)
		}
		must(t, s.Close())
		s = open(t, Options{Dir: dir})
		if n, err := count(s); n != 240 || err != nil {
			t.Errorf("%d events after a restart, want 240: %v", n, err)
		}
		st, err := s.State(ctx)
		must(t, err)
		if st.ID != 4 || st.LSN != 400 {
			t.Errorf("%+v", st)
		}
		out = map[string]string{}
		for _, p := range s.parts {
			must(t, p.view(func(tx *bbolt.Tx) error {
				for _, name := range [][]byte{layout.BucketGroups, layout.BucketHosts, layout.BucketLedger} {
					if b := tx.Bucket(name); b != nil {
						must(t, b.ForEach(func(k, v []byte) error {
							out[p.part.String()+" "+string(name)+" "+string(k)] = string(v)
							return nil
						}))
					}
				}
				return nil
			}))
		}
		return out
	}
	if diff := cmp.Diff(files(t.TempDir(), false), files(t.TempDir(), true)); diff != "" {
		t.Errorf("what is in the partitions (-told +not told):\n%s", diff[:min(len(diff), 4000)])
	}
}

// untold has a store where a batch's transaction is on the disk and an error said that it is not: the last of three.
func untold(t *testing.T) (s *Store, b *store.Batch) {
	t.Helper()
	s = open(t, Options{Dir: t.TempDir()})
	for id := uint64(1); id <= 3; id++ {
		tab := store.NewTable()
		storetest.Fill(tab, storetest.NewGenerator(id, storetest.Templates(t), 3, storetest.Start), 60)
		b = &store.Batch{ID: id, Day: store.DayOf(storetest.Start), Events: tab, LSN: 100 * id, Hosts: []store.Host{{Name: "a", Records: id}}}
		if id < 3 {
			must(t, s.Append(t.Context(), b))
		}
	}
	blob, sum, err := s.codec.Encode(b.Events)
	must(t, err)
	s.appendMu.Lock()
	_, err = s.put(b, blob, &sum, eventtree.Hash{}, nil)
	s.appendMu.Unlock()
	must(t, err)
	return s, b
}

// allOnce looks whether the store has each event of three batches once, and so after another start.
func allOnce(t *testing.T, s *Store) {
	t.Helper()
	for range 2 {
		if n, err := count(s); n != 180 || err != nil {
			t.Errorf("%d events, want 180: %v", n, err)
		}
		must(t, s.Close())
		s = open(t, Options{Dir: s.opts.Dir})
	}
}

// TestCommittedAndRepaired: such a batch is stored by the next try also where the partition had to be repaired meanwhile.
func TestCommittedAndRepaired(t *testing.T) {
	t.Parallel()
	s, b := untold(t)
	s.appendMu.Lock()
	mended := s.repairFor(b.Day, fmt.Errorf("%s: %w: a test", s.cur.path, store.ErrDamaged))
	s.appendMu.Unlock()
	if !mended {
		t.Error("nothing was repaired")
	}
	must(t, s.Append(t.Context(), b))
	allOnce(t, s)
}

// TestImportedAndRepaired: nor is a batch of an import there twice.
func TestImportedAndRepaired(t *testing.T) {
	t.Parallel()
	s, b := untold(t)
	must(t, s.Append(t.Context(), b))
	tab := store.NewTable()
	tab.Add("a", storetest.Parse("a", "type=USER_END msg=audit(1763000000.001:1): x=1"))
	b = &store.Batch{ID: 4, Day: b.Day, Events: tab, LSN: b.LSN, Import: &store.Import{Name: "old"}}
	blob, sum, err := s.codec.Encode(tab)
	must(t, err)
	s.appendMu.Lock()
	p, err := s.putImport(b, blob, &sum, eventtree.Hash{})
	must(t, err)
	mended := s.repairFor(b.Day, fmt.Errorf("%s: %w: a test", p.path, store.ErrDamaged))
	s.appendMu.Unlock()
	must(t, s.Append(t.Context(), b))
	if n, err := count(s); n != 181 || err != nil || !mended {
		t.Errorf("%d events, want 181: %v; repaired: %v", n, err, mended)
	}
}

// TestCommittedAndRotated: the partition that has such a batch is not ended before the next try: that would store it in the next one, too.
func TestCommittedAndRotated(t *testing.T) {
	t.Parallel()
	s, b := untold(t)
	if err := s.Rotate(t.Context()); err == nil {
		t.Error("it was ended")
	}
	must(t, s.Append(t.Context(), b))
	must(t, s.Rotate(t.Context()))
	allOnce(t, s)
}
