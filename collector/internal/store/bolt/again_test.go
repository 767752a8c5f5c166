package bolt

import (
	"context"
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
