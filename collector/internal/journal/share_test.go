package journal

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// submit submits deferred batches of one record until there is no room for more, and
// says how many there was room for.
func submit(t *testing.T, j *Journal, heavy bool, raw string) (n int) {
	t.Helper()
	for ; n < 100_000; n++ {
		b := batch(1, raw)
		b.Deferred, b.Heavy = true, heavy
		err := j.Submit(context.Background(), b, func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
		if errors.Is(err, ErrBusy) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("there is always room")
	return 0
}

// Heavy batches have three quarters of the queue, and short records count as longer ones;
// the rest is for the others, who need not wait behind a heavy one that waits.
func TestHeavyShare(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	j, _ := start(t, Options{Dir: t.TempDir(), QueueBytes: limit}, Resume{})
	if j.Busy() {
		t.Error("an empty queue is busy")
	}
	each := int64(recordCost + batchCost + 100)
	if n, want := submit(t, j, true, strings.Repeat("x", 100)), limit*3/4/each; int64(n) != want {
		t.Errorf("room for %d heavy batches, want %d", n, want)
	}
	if !j.Busy() {
		t.Error("a queue full of heavy batches is not busy")
	}
	waits := make(chan error, 1)
	go func() {
		b := batch(2, "it waits")
		b.Heavy = true
		waits <- j.Submit(context.Background(), b, func(error) {})
	}()
	time.Sleep(20 * time.Millisecond) // it is asleep by now; if not, the test shows less
	if n, want := submit(t, j, false, strings.Repeat("y", 100)), limit/4/each; int64(n) != want && int64(n) != want+1 {
		t.Errorf("room for %d light batches, want %d", n, want)
	}
	j.Commit(false)
	need.Wait(t, "the heavy one has room when some were taken", func() bool {
		j.Poke()
		if _, err := j.Take(context.Background(), 0); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-waits:
			if err != nil {
				t.Error(err)
			}
			return true
		default:
			return false
		}
	})
	j.Poke()
	if _, err := j.Take(context.Background(), 0); err != nil { // gives the last room back
		t.Fatal(err)
	}
	need.Wait(t, "the queue is empty", func() bool {
		j.Poke()
		_, err := j.Take(context.Background(), 0)
		return err == nil && j.share.held.Load() == 0 && j.share.heavyHeld.Load() == 0
	})
	// Many short records cost time, not memory.
	b := batch(1, strings.Split(strings.Repeat("a ", 2000), " ")...)
	b.Heavy = true
	if c := j.share.costOf(b, b.Bytes()); c.heavy < 2000*heavyRecord || c.all > 2000*heavyRecord {
		t.Errorf("2,000 short records cost %+v", c)
	}
}
