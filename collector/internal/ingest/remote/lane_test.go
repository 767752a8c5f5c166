package remote

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// A journal whose queue is full now and then: what the poller can't hand over goes
// through the session's goroutine, and the order of nothing changes.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 3))
	f := setup(t, func(c *settings) { c.Pollers = 1 })
	f.j.set(func() { f.j.full = func() bool { return rng.IntN(3) == 0 } })
	const senders, records = 8, 300
	var wg sync.WaitGroup
	for i := range senders {
		c := f.dial()
		wg.Add(2)
		go func() {
			defer wg.Done()
			for n := range records {
				b := message(uint32(n), fmt.Sprintf("%d %d", i, n))
				if n%5 == 0 { // two batches in one read
					b = append(fmt.Appendf(nil, "line %d %d\n", i, n), b...)
				}
				if n%7 == 0 {
					b = remote.Append(b, remote.Heartbeat, uint32(1000+n), nil)
				}
				c.Write(b)
			}
		}()
		go func() {
			defer wg.Done()
			for n := range records {
				want := []string{fmt.Sprintf("ACK %d", n)}
				if n%7 == 0 {
					want = append(want, fmt.Sprintf("ACK %d", 1000+n))
				}
				for _, w := range want {
					if got := c.reply(); got != w {
						t.Errorf("sender %d: %q, want %q", i, got, w)
						return
					}
				}
			}
		}()
	}
	wg.Wait()
	got := map[string][]string{}
	for _, r := range f.j.stored() {
		var kind string
		var i, n int
		if k, _ := fmt.Sscanf(r, "line %d %d", &i, &n); k == 2 {
			kind = "line "
		} else if k, _ := fmt.Sscanf(r, "%d %d", &i, &n); k != 2 {
			t.Fatalf("stored: %q", r)
		}
		key := fmt.Sprint(kind, i)
		got[key] = append(got[key], fmt.Sprint(n))
	}
	want := map[string][]string{}
	for i := range senders {
		for n := range records {
			want[fmt.Sprint(i)] = append(want[fmt.Sprint(i)], fmt.Sprint(n))
			if n%5 == 0 {
				want[fmt.Sprint("line ", i)] = append(want[fmt.Sprint("line ", i)], fmt.Sprint(n))
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// A disk that hangs holds up those whose records it has: others' heartbeats are
// answered, and those with nothing in flight end with the collector.
func TestHangingDisk(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *settings) { c.Pollers = 1 })
	hold := make(chan struct{})
	f.j.set(func() { f.j.hold, f.j.stuck = hold, hold })
	waits, other := f.dial(), f.dial()
	waits.send(message(1, "in flight"))
	eventually(t, "it is on its way", func() bool { return f.value("auditfleet_collector_inflight_bytes") > 0 })
	for i := range uint32(3) {
		other.send(remote.Append(nil, remote.Heartbeat, i, nil))
		other.want(fmt.Sprintf("ACK %d", i))
	}
	late := f.dial()
	late.send(remote.Append(nil, remote.Heartbeat, 9, nil))
	late.want("ACK 9")
	f.all.End()
	other.want("ENDING 0", "EOF")
	late.want("ENDING 0", "EOF")
	close(hold)
	waits.want("ACK 1", "ENDING 0", "EOF")
	<-waits.done
}
