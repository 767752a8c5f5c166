package head

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Whenever a follower comes, it is given each event from then on once, and with a
// time to start at each that was there, too, while tables are cut and stored.
func TestFollow(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), small)
	const batches, each = 60, 200
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	seen := make([]map[uint64]int, 8)
	var mu sync.Mutex // guards seen and idles
	idles := 0
	for i := range seen {
		seen[i] = map[uint64]int{}
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 15 * time.Millisecond)
			err := r.h.Follow(ctx, &query.Query{StartMs: 1, Terms: []query.Term{{Fields: []query.Field{query.FieldAcct}, Text: "even"}}}, func(ev *event.Event) error {
				mu.Lock()
				defer mu.Unlock()
				seen[i][ev.Serial]++
				if ev.Serial == batches*each {
					return query.ErrStop
				}
				return nil
			}, func(lost uint64) error {
				mu.Lock()
				defer mu.Unlock()
				if idles++; lost != 0 {
					return fmt.Errorf("%d events lost", lost)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	serial := 0
	for range batches {
		var raw []string
		for range each {
			serial++
			acct := []string{"odd", "even"}[(serial+1)%2]
			raw = append(raw, line("h", serial/50, serial, "USER_LOGIN", fmt.Sprintf("pid=1 uid=0 msg='acct=%q %s'", acct, strings.Repeat("x", 200))))
		}
		r.put(t, plain(1, raw...))
	}
	wg.Wait()
	for i, got := range seen {
		if len(got) != batches*each/2 {
			t.Errorf("follower %d was given %d events, want %d", i, len(got), batches*each/2)
		}
		for s, n := range got {
			if n != 1 || s%2 != 0 {
				t.Fatalf("follower %d was given event %d %d times", i, s, n)
			}
		}
	}
	if idles == 0 {
		t.Error("nobody was told that there is nothing more")
	}
	if n := len(r.h.followers); n != 0 {
		t.Errorf("%d followers are left", n)
	}
	r.settle(t)
	if s := r.h.Stats(); s.StoredID < 3 {
		t.Errorf("only %d tables were stored: the test shows little", s.StoredID)
	}
}

// One that does not keep up is told how much it missed; the head goes on.
func TestSlowFollower(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	begun, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var given, lost uint64
	go func() {
		defer close(done)
		err := r.h.Follow(ctx, &query.Query{}, func(*event.Event) error {
			if given++; given == 1 {
				close(begun)
				<-release
			}
			return nil
		}, func(n uint64) error {
			if lost += n; lost > 0 {
				return query.ErrStop
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}()
	first := make(chan struct{})
	go func() { // until the follower is there
		defer close(first)
		for i := 1; ; i++ {
			r.put(t, plain(1, line("h", 0, i, "USER_LOGIN", "pid=1")))
			select {
			case <-begun:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	<-first
	const n, size = 3000, 6000
	total := 0
	for i := range 10 {
		var raw []string
		for k := range n / 10 {
			raw = append(raw, line("h", 1, 1000+i*n+k, "USER_LOGIN", "pid=1 text="+strings.Repeat("y", size)))
			total++
		}
		r.put(t, plain(1, raw...))
	}
	r.settle(t)
	close(release)
	<-done
	if lost == 0 || given < followerBytes/(size+200)/2 || given+lost < uint64(total) {
		t.Errorf("%d events given and %d said to be lost of %d", given, lost, total)
	}
}

func TestFollowEnds(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	nothing := func(*event.Event) error { return nil }
	quiet := func(uint64) error { return nil }
	results := make(chan error, MaxFollowers)
	for range MaxFollowers {
		go func() { results <- r.h.Follow(ctx, &query.Query{StartMs: 1}, nothing, quiet) }()
	}
	for until := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		r.h.mu.RLock()
		n := len(r.h.followers)
		r.h.mu.RUnlock()
		if n == MaxFollowers || time.Now().After(until) {
			break
		}
	}
	if err := r.h.Follow(ctx, &query.Query{}, nothing, quiet); !errors.Is(err, ErrFollowers) {
		t.Errorf("one too many: %v", err)
	}
	cancel()
	for range MaxFollowers {
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("ended by its context: %v", err)
		}
	}
	go func() { results <- r.h.Follow(t.Context(), &query.Query{}, nothing, quiet) }()
	time.Sleep(20 * time.Millisecond)
	if err := r.h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-results; !errors.Is(err, ErrClosed) {
		t.Errorf("the head was closed: %v", err)
	}
}

// Backwards, what is in memory and what is stored come in one order.
func TestScanBackwards(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), small)
	g := storetest.NewGenerator(5, storetest.Templates(t), 4, storetest.Start)
	for range 30 {
		var raw []string
		for range 40 {
			_, recs := g.Event()
			for _, rec := range recs {
				raw = append(raw, string(rec))
			}
		}
		r.put(t, plain(1, raw...))
	}
	want := texts(t, r.h, &query.Query{})
	got := texts(t, r.h, &query.Query{Reverse: true})
	if len(got) < 1000 || r.h.Stats().TableEvents == 0 || r.h.Stats().StoredID == 0 {
		t.Fatalf("%d events, %+v: nothing to compare", len(got), r.h.Stats())
	}
	for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
		got[i], got[j] = got[j], got[i]
	}
	same(t, "backwards", want, got)
}
