package remote

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// All connections together hold no more than the limit, each gets its turn, and
// afterwards nothing of the limit is used up.
func TestTotalInFlightIsBounded(t *testing.T) {
	t.Parallel()
	const limit, senders, records = 3 * readSize, 40, 2000
	f := setup(t, func(c *settings) { c.MaxTotal = limit })
	hold := make(chan struct{})
	f.j.set(func() { f.j.hold = hold })
	body := strings.Repeat("y", 300)
	var wg sync.WaitGroup
	for range senders {
		c := f.dial()
		wg.Add(2)
		go func() {
			defer wg.Done()
			var b []byte
			for i := range uint32(records) {
				b = remote.Append(b, remote.Message, i, []byte(body))
			}
			c.Write(b)
		}()
		go func() {
			defer wg.Done()
			for i := range records {
				if got, want := c.reply(), fmt.Sprintf("ACK %d", i); got != want {
					t.Errorf("reply %q, want %q", got, want)
					return
				}
			}
		}()
	}
	eventually(t, "some wait for their turn", func() bool { return f.value("auditfleet_collector_inflight_waits_total") > senders/2 })
	time.Sleep(50 * time.Millisecond)
	if v := f.value("auditfleet_collector_inflight_bytes"); v > limit || v < limit/4 {
		t.Errorf("%v bytes in flight, the limit is %d", v, limit)
	}
	close(hold)
	wg.Wait()
	eventually(t, "all is given back", func() bool {
		free := f.in.TryAcquire(limit)
		if free {
			f.in.Release(limit)
		}
		return free
	})
	if v := f.value("auditfleet_collector_inflight_bytes"); v != 0 {
		t.Errorf("%v bytes are said to be in flight", v)
	}
}

// One that waits for its turn is not idle, and ends with the collector.
func TestWaitingForItsTurn(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *settings) { c.MaxTotal = 1 })
	if !f.in.TryAcquire(readSize) {
		t.Fatal("the limit is less than one read")
	}
	defer f.all.Abort()
	waits := func() float64 { return f.value("auditfleet_collector_inflight_waits_total") }
	c := f.dial()
	c.send(message(1, "waits"))
	eventually(t, "it waits", func() bool { return waits() == 1 })
	eventually(t, "it is busy", c.side.busy.Load)
	f.in.Release(readSize)
	c.want("ACK 1")
	eventually(t, "it is not busy", func() bool { return !c.side.busy.Load() })
	if err := f.in.Acquire(f.all.ctx, readSize); err != nil {
		t.Fatal(err)
	}
	before := waits()
	c.send(message(2, "never read"))
	eventually(t, "it waits again", func() bool { return waits() > before })
	f.all.Abort()
	<-c.done
	f.in.Release(readSize)
}

// What the collector itself refuses is told in the stock server's words.
func TestRefusedBeforehand(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c := f.dial()
	refuse := func(err error) { f.disk.refuses.Store(&err) }
	refuse(space.ErrFull)
	c.send(message(1, "a"))
	c.want("DISKFULL 1 disk full")
	refuse(space.ErrSuspended)
	c.send(message(2, "b"))
	c.want("DISKERROR 2 remote logging suspended")
	f.disk.refuses.Store(nil)
	c.send(message(3, "c"))
	c.want("ACK 3")
	if diff := cmp.Diff([]string{"c"}, f.j.stored()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}
