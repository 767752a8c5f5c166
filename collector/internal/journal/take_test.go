package journal

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// taking is a Take that goes on in another goroutine.
func taking(j *Journal, linger time.Duration) <-chan int {
	got := make(chan int, 1)
	go func() {
		list, _ := j.Take(context.Background(), linger)
		got <- len(list)
	}()
	return got
}

func (j *Journal) takerIs(s taker) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.taker == s
}

func took(t *testing.T, why string, got <-chan int, want int) {
	t.Helper()
	select {
	case n := <-got:
		if n != want {
			t.Errorf("%s: %d batches, want %d", why, n, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%s: nothing is taken", why)
	}
}

// Few batches wait for more without the taker being woken; what ends that, ends it with all of them.
func TestTakeLingers(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 4<<10)
	for name, c := range map[string]struct {
		end  func(t *testing.T, j *Journal)
		want int
	}{
		"poke":  {func(_ *testing.T, j *Journal) { j.Poke() }, 10},
		"close": {func(_ *testing.T, j *Journal) { j.Stop() }, 10},
		"plenty": {func(t *testing.T, j *Journal) {
			if err := put(t, j, batch(1, slicesOf(big, 64)...)); err != nil {
				t.Error(err)
			}
		}, 11},
		"plenty of heavy ones": {func(t *testing.T, j *Journal) {
			b := batch(1, slicesOf("x", takeCost/heavyRecord)...)
			b.Heavy = true
			if err := put(t, j, b); err != nil {
				t.Error(err)
			}
		}, 11},
	} {
		j, _ := start(t, Options{Dir: t.TempDir()}, Resume{})
		got := taking(j, time.Hour)
		need.Wait(t, "the taker sleeps", func() bool { return j.takerIs(takerIdle) })
		for i := range 10 {
			if err := put(t, j, batch(1, fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
			if !j.takerIs(takerLingers) {
				t.Errorf("%s: batch %d wakes the taker", name, i)
			}
		}
		c.end(t, j)
		took(t, name, got, c.want)
	}
	// Without anything else, the time does.
	j, _ := start(t, Options{Dir: t.TempDir()}, Resume{})
	got := taking(j, 10*time.Millisecond)
	if err := put(t, j, batch(1, "x")); err != nil {
		t.Fatal(err)
	}
	took(t, "time", got, 1)
	// What was ready before Take has its time from then on.
	if err := put(t, j, batch(1, "x")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Millisecond)
	took(t, "it was ready for longer", taking(j, time.Millisecond), 1)
}

func slicesOf(s string, n int) (out []string) {
	for range n {
		out = append(out, s)
	}
	return out
}

// Who waits for room in the queue does not wait for the taker to have lingered, once or again and again.
func TestTakeMakesRoom(t *testing.T) {
	t.Parallel()
	j, _ := start(t, Options{Dir: t.TempDir(), QueueBytes: 10_000}, Resume{})
	stop := make(chan struct{})
	taken := make(chan int, 1000)
	go func() {
		defer close(stop)
		for {
			list, err := j.Take(context.Background(), time.Hour)
			if err != nil {
				return
			}
			taken <- len(list)
		}
	}()
	for i := range 50 {
		small, large := batch(1, "x"), batch(1, strings.Repeat("y", 9000))
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, b := range []*Batch{small, large} {
				if err := put(t, j, b); err != nil {
					t.Error(err)
				}
			}
		}()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatalf("turn %d: no room", i)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	<-stop
}

// What has no records is taken by nobody, and keeps no room either.
func TestEmptyBatchesKeepNoRoom(t *testing.T) {
	t.Parallel()
	j, _ := start(t, Options{Dir: t.TempDir(), QueueBytes: 4 * batchCost}, Resume{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range 20 {
		done := make(chan error, 1)
		if err := j.Submit(ctx, batch(1), func(err error) { done <- err }); err != nil {
			t.Fatalf("batch %d: %v", i, err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if held := j.Stats().QueueBytes; held != 0 {
		t.Errorf("%d bytes are held of batches without records", held)
	}
	got := taking(j, 0)
	if err := put(t, j, batch(1, "x")); err != nil {
		t.Fatal(err)
	}
	took(t, "behind them", got, 1)
}
