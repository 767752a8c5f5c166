package head

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// batchOf is the batch of each event after one.
func batchOf(t *testing.T, r *rig, after uint64) map[string]uint64 {
	t.Helper()
	out := map[string]uint64{}
	q := &query.Query{Batches: true, AfterBatch: after}
	if err := r.h.Scan(context.Background(), q, func(ev *event.Event) error {
		out[storetest.Text(ev)] = ev.Batch
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// A search by checkpoint builds on this: an event has its batch from when it is found,
// in memory and in the store, and once a batch is said to be stored nothing is added
// to it.
func TestBatchOfAnEventStays(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) { o.TableBytes, o.MaxHosts = 50<<10, 2 })
	known, stored := map[string]uint64{}, uint64(0)
	inMemory := 0
	rounds := need.Size(200, 60)
	for i := range rounds {
		b := plain(1)
		for k := range 20 {
			b.Records = append(b.Records, journal.Record{Raw: []byte(line(fmt.Sprint("host", k), i%7*1000-3000, i*20+k+1, "USER_LOGIN", "pid=1"))})
		}
		r.put(t, b)
		if i%20 == 19 {
			r.settle(t)
		}
		before := r.h.Stats().StoredID
		now := batchOf(t, r, 0)
		for text, was := range known {
			if now[text] != was {
				t.Fatalf("was of batch %d, is of %d: %q", was, now[text], text)
			}
		}
		for text, batch := range now {
			if _, ok := known[text]; !ok && batch <= stored {
				t.Fatalf("came to batch %d when %d was stored: %q", batch, stored, text)
			}
			if batch > before {
				inMemory++
			}
		}
		later := batchOf(t, r, before)
		maps.DeleteFunc(now, func(_ string, batch uint64) bool { return batch <= before })
		if !maps.Equal(later, now) {
			t.Fatalf("%d events of batches after %d, want %d", len(later), before, len(now))
		}
		known, stored = batchOf(t, r, 0), before
	}
	if len(known) != rounds*20 || stored < 5 || inMemory == 0 {
		t.Errorf("%d events, %d batches, %d in memory: the test shows nothing", len(known), stored, inMemory)
	}
}
