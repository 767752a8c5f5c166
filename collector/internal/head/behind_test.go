package head

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// held is a place that takes a batch only when it is let.
type held struct {
	store.Place
	let chan struct{} // closed: all
}

func (s *held) Append(ctx context.Context, b *store.Batch) error {
	<-s.let
	return s.Place.Append(ctx, b)
}

// heldRig has acknowledged more than the head can take in while the store takes
// nothing: two tables are full, the rest lies between journal and head.
func heldRig(t *testing.T, wait time.Duration) (*rig, *held, []string) {
	s := &held{let: make(chan struct{})}
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) {
		s.Place = o.Place
		o.Place, o.TableBytes, o.SearchWait, o.EventTimeout = s, 50<<10, wait, time.Millisecond
	})
	list, _ := batches(t, 11, 3, 4000, 10)
	r.put(t, list...)
	return r, s, rawOf(list)
}

// A search sees what was acknowledged before it began, however far the head is
// behind the journal then.
func TestSearchSeesAcknowledged(t *testing.T) {
	t.Parallel()
	r, s, _ := heldRig(t, time.Minute)
	time.AfterFunc(100*time.Millisecond, func() { close(s.let) })
	last := r.j.Last()
	if taken := r.h.lastTaken(); taken >= last {
		t.Fatalf("the head has taken %d of %d: it is not behind, the test shows nothing", taken, last)
	}
	got := uint64(0)
	if err := r.h.Scan(context.Background(), &query.Query{}, func(ev *event.Event) error {
		got += uint64(len(ev.Records))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// What was open when the search began is not complete yet.
	if open := uint64(50); got < last-open {
		t.Errorf("%d of %d acknowledged records were found", got, last)
	}
}

func (h *Head) lastTaken() uint64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.processed
}

// A store that takes nothing costs a search a bounded wait, and the answer says
// what it may lack; who asked may give up before.
func TestSearchBehind(t *testing.T) {
	t.Parallel()
	r, s, want := heldRig(t, 50*time.Millisecond)
	found := 0
	err := r.h.Scan(context.Background(), &query.Query{}, func(ev *event.Event) error {
		found += len(ev.Records)
		return nil
	})
	if !errors.Is(err, ErrBehind) || found == 0 || found >= len(want) {
		t.Errorf("%d of %d records, %v; want some and ErrBehind", found, len(want), err)
	}
	if n := r.h.Stats().SearchesBehind; n != 1 {
		t.Errorf("%d searches are counted as behind", n)
	}
	r.h.opts.SearchWait = time.Hour
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := r.h.Scan(ctx, &query.Query{}, func(*event.Event) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	close(s.let)
	waitFor(t, "once the store takes events again", want, r.h)
}

// Searches that begin while records stream in each see all that was acknowledged
// by then.
func TestSearchWhileReceiving(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), small)
	for i := range 300 {
		b := plain(1)
		for k := range 50 {
			b.Records = append(b.Records, journal.Record{Raw: []byte(line("a", i, i*50+k+1, "USER_LOGIN", "pid=1"))})
		}
		r.put(t, b)
		found := 0
		if err := r.h.Scan(context.Background(), &query.Query{StartMs: b0(i)}, func(*event.Event) error { found++; return nil }); err != nil {
			t.Fatal(err)
		}
		if found != 50 {
			t.Fatalf("batch %d: %d of 50 records were found right after their acknowledgement", i, found)
		}
	}
}

func b0(i int) int64 { return (1795334400 + int64(i)) * 1000 }
