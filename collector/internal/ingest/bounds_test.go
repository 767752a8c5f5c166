package ingest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/proto/remote"
)

// All connections together hold no more than the limit, each gets its turn, and
// afterwards nothing of the limit is used up.
func TestTotalInFlightIsBounded(t *testing.T) {
	const limit, senders, records = 3 * readSize, 40, 2000
	f := setup(t, func(c *Config) { c.MaxTotal = limit })
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
		free := f.in.total.TryAcquire(limit)
		if free {
			f.in.total.Release(limit)
		}
		return free
	})
	if v := f.value("auditfleet_collector_inflight_bytes"); v != 0 {
		t.Errorf("%v bytes are said to be in flight", v)
	}
}

// One that waits for its turn is not idle, and ends with the collector.
func TestWaitingForItsTurn(t *testing.T) {
	f := setup(t, func(c *Config) { c.MaxTotal = 1 })
	if !f.in.total.TryAcquire(readSize) {
		t.Fatal("the limit is less than one read")
	}
	defer f.in.Abort()
	waits := func() float64 { return f.value("auditfleet_collector_inflight_waits_total") }
	c := f.dial()
	c.send(message(1, "waits"))
	eventually(t, "it waits", func() bool { return waits() == 1 })
	eventually(t, "it is busy", c.side.busy.Load)
	f.in.total.Release(readSize)
	c.want("ACK 1")
	eventually(t, "it is not busy", func() bool { return !c.side.busy.Load() })
	if err := f.in.total.Acquire(f.in.ctx, readSize); err != nil {
		t.Fatal(err)
	}
	before := waits()
	c.send(message(2, "never read"))
	eventually(t, "it waits again", func() bool { return waits() > before })
	f.in.Abort()
	<-c.done
	f.in.total.Release(readSize)
}

// What the collector itself refuses is told in the stock server's words, and who
// is to know hears of the first record that is stored again.
func TestRefusedBeforehand(t *testing.T) {
	var mu sync.Mutex
	var heard []string
	f := setup(t, func(c *Config) {
		c.Outcome = func(err error) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, fmt.Sprint(err))
		}
	})
	c := f.dial()
	refuse := func(err error) { f.j.set(func() { f.j.refuse = err }) }
	refuse(fmt.Errorf("gate: %w", ErrFull))
	c.send(message(1, "a"))
	c.want("DISKFULL 1 disk full")
	refuse(fmt.Errorf("gate: %w", ErrSuspended))
	c.send(message(2, "b"))
	c.want("DISKERROR 2 remote logging suspended")
	refuse(nil)
	c.send(message(3, "c"))
	c.want("ACK 3")
	refuse(errors.Join(errors.New("x"), syscall.EDQUOT))
	c.send(message(4, "d"))
	c.want("DISKFULL 4 disk full")
	if diff := cmp.Diff([]string{"c"}, f.j.stored()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	mu.Lock()
	defer mu.Unlock()
	want := []string{"gate: the disk is full", "gate: storing is suspended", "<nil>", "x\ndisk quota exceeded"}
	if diff := cmp.Diff(want, heard); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}
