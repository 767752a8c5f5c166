package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
)

// deferred submits a batch that waits for Commit; its name is put into order when it
// is stored.
func deferred(t *testing.T, j *Journal, order *[]string, mu *sync.Mutex, name string, records int) error {
	t.Helper()
	raws := make([]string, records)
	for i := range raws {
		raws[i] = fmt.Sprintf("%s/%d", name, i)
	}
	b := batch(1, raws...)
	b.Deferred = true
	return j.Submit(context.Background(), b, func(err error) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		mu.Lock()
		defer mu.Unlock()
		*order = append(*order, name)
	})
}

// Deferred batches are stored by Commit, before it returns, with one sync; or with the
// next batch that does not wait, before it.
func TestDeferred(t *testing.T) {
	t.Parallel()
	j, _ := start(t, Options{Dir: t.TempDir()}, Resume{})
	var mu sync.Mutex
	var order []string
	for i := range 5 {
		if err := deferred(t, j, &order, &mu, fmt.Sprint("a", i), 2); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(20 * time.Millisecond)
	if got := j.Stats(); got.Batches != 0 || len(order) != 0 {
		t.Fatalf("stored before Commit: %d batches, %v", got.Batches, order)
	}
	j.Commit(false)
	j.Commit(false) // of nothing
	if got := j.Stats(); got.Batches != 5 || got.Records != 10 || got.Syncs != 1 {
		t.Errorf("after Commit: %d batches, %d records, %d syncs", got.Batches, got.Records, got.Syncs)
	}
	if err := deferred(t, j, &order, &mu, "b", 1); err != nil {
		t.Fatal(err)
	}
	if err := put(t, j, batch(2, "c")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a0", "a1", "a2", "a3", "a4", "b"}, order); diff != "" {
		t.Errorf("order of done (-want +got):\n%s", diff)
	}
	// Many are left to the journal's own goroutine.
	if err := deferred(t, j, &order, &mu, "d", commitRecords+1); err != nil {
		t.Fatal(err)
	}
	j.Commit(false)
	for end := time.Now().Add(time.Minute); j.Stats().Batches != 8; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("many were not stored")
		}
	}
	// A stop stores what is deferred.
	if err := deferred(t, j, &order, &mu, "e", 1); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if order[len(order)-1] != "e" {
		t.Errorf("the last stored is %q", order[len(order)-1])
	}
	if err := deferred(t, j, &order, &mu, "f", 1); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A deferred batch does not wait for room.
func TestDeferredBusy(t *testing.T) {
	t.Parallel()
	j, _ := start(t, Options{Dir: t.TempDir(), QueueBytes: 5000}, Resume{})
	var mu sync.Mutex
	var order []string
	failed := error(nil)
	n := 0
	for ; failed == nil && n < 1000; n++ {
		failed = deferred(t, j, &order, &mu, fmt.Sprint(n), 1)
	}
	if !errors.Is(failed, ErrBusy) || n < 5 || n > 25 {
		t.Fatalf("after %d: %v", n, failed)
	}
	j.Commit(false)
	if _, err := j.Take(context.Background(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Take(canceled(), 0); !errors.Is(err, context.Canceled) { // gives the room back
		t.Fatal(err)
	}
	if err := deferred(t, j, &order, &mu, "again", 1); err != nil {
		t.Errorf("with room again: %v", err)
	}
	j.Commit(false)
	if len(order) != n {
		t.Errorf("%d stored, want %d", len(order), n)
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// Deferred batches and others from many goroutines, commits by all of them: all are
// stored, each once, and those of one goroutine in their order.
func TestDeferredAmongOthers(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	j, _ := start(t, Options{Dir: t.TempDir()}, Resume{})
	var taken []*Batch
	var taker sync.WaitGroup
	taker.Add(1)
	go func() { defer taker.Done(); taken = drain(j) }()
	var wg, stored sync.WaitGroup
	const each = 300
	for g := range 6 {
		rng := rand.New(rand.NewPCG(seed, uint64(g)))
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				b := batch(uint64(g), fmt.Sprintf("%d %d", g, i))
				b.Deferred = g%2 == 0
				stored.Add(1)
				err := j.Submit(context.Background(), b, func(err error) {
					if err != nil {
						t.Error(err)
					}
					stored.Done()
				})
				if err != nil {
					t.Errorf("submit: %v", err)
					stored.Done()
				}
				if b.Deferred && (i == each-1 || rng.IntN(5) == 0) {
					j.Commit(false)
				}
			}
		}()
	}
	wg.Wait()
	stored.Wait()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	taker.Wait()
	next := map[int]int{}
	for _, b := range taken {
		var g, i int
		if _, err := fmt.Sscanf(string(b.Records[0].Raw), "%d %d", &g, &i); err != nil || i != next[g] {
			t.Fatalf("goroutine %d: batch %d after %d (%v)", g, i, next[g], err)
		}
		next[g]++
	}
	if len(taken) != 6*each {
		t.Errorf("%d batches taken, want %d", len(taken), 6*each)
	}
}

// TestQueueIsMemory fills the queue with what is smallest beside its cost and compares
// what is counted with the heap.
func TestQueueIsMemory(t *testing.T) { // not parallel: the heap is the program's
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, per := range []int{1, 100} {
		j, _ := start(t, Options{Dir: t.TempDir(), Flush: FlushNone, QueueBytes: 1 << 30, SegmentBytes: 1 << 20}, Resume{})
		before := heap()
		for range 40_000 / per {
			b := &Batch{Conn: 1, Sender: from(addr(1)), Received: time.Unix(1, 0), Records: make([]Record, per)}
			const line = "type=SYSCALL msg=audit(1700000.000:000001): x"
			own := []byte(strings.Repeat(line, per)) // as a session cuts a read
			for k := range b.Records {
				b.Records[k].Raw = own[k*len(line) : (k+1)*len(line) : (k+1)*len(line)]
			}
			if err := put(t, j, b); err != nil {
				t.Fatal(err)
			}
		}
		if err := j.Sync(); err != nil { // the log lets go of what it has written
			t.Fatal(err)
		}
		used, counted := heap()-before, j.Stats().QueueBytes
		f := float64(used) / float64(counted)
		t.Logf("%d records a batch: %d counted, %d of heap (%.2f)", per, counted, used, f)
		if f > 1.5 { // less is what a session keeps, which is not here
			t.Errorf("%d records a batch: the heap is %.2f of what is counted", per, f)
		}
	}
}
