package head

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// TestSlowEventsAreWhole: a system call that took long is recorded with the time of its
// begin, between the records of others. Its event is found whole, by any two of its properties, where
// once it was cut at each record of another event: 2,000 events became 2,559.
func TestSlowEventsAreWhole(t *testing.T) {
	t.Parallel()
	// Half a minute, so that a busy machine ends none by its own clock.
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) { o.TableBytes, o.EventTimeout = 200<<10, 30*time.Second })
	rnd := rand.New(rand.NewPCG(need.Seed(t), 1))
	now, slow, n := 0, 0, need.Size(2000, 600)
	var waiting [][]string
	var batch []string
	send := func() {
		i := rnd.IntN(len(waiting))
		batch = append(batch, waiting[i][0])
		if waiting[i] = waiting[i][1:]; len(waiting[i]) == 0 {
			waiting = append(waiting[:i], waiting[i+1:]...)
		}
		if len(batch) >= 7 {
			r.put(t, plain(1, batch...))
			batch = nil
		}
	}
	for i := range n {
		now += []int{10, 50, 200}[rnd.IntN(3)]
		ms, key := now, "fast"
		// The first that comes is a fast one: of several slow ones that nothing went before, one may be cut.
		if i > 3 && rnd.IntN(9) == 0 {
			ms, key = now-[]int{31_000, 70_000, 600_000}[rnd.IntN(3)], "slow"
			slow++
		}
		var ev []string
		for _, rec := range []string{
			`SYSCALL msg=audit(%s:%d): arch=c000003e syscall=257 success=yes exit=3 items=1 pid=7 comm="x" exe="/bin/x" key="` + key + `"`, `CWD msg=audit(%s:%d): cwd="/"`,
			`PATH msg=audit(%s:%d): item=0 name="/tmp/` + key + `"`, `PROCTITLE msg=audit(%s:%d): proctitle="x"`,
		} {
			at := 1795334400_000 + ms
			ev = append(ev, "node=web1 type="+fmt.Sprintf(rec, fmt.Sprintf("%d.%03d", at/1000, at%1000), i+1))
		}
		for waiting = append(waiting, ev); len(waiting) > 3; {
			send()
		}
	}
	for len(waiting) > 0 {
		send()
	}
	if len(batch) > 0 {
		r.put(t, plain(1, batch...))
	}
	r.settle(t)
	both := []query.Term{
		{Fields: []query.Field{query.FieldKey}, Op: query.OpEqual, Text: "slow"},
		{Fields: []query.Field{query.FieldFile}, Op: query.OpEqual, Text: "/tmp/slow"},
	}
	if got := len(texts(t, r.h, &query.Query{})); got != n {
		t.Errorf("%d events, %d were sent", got, n)
	}
	if got := len(texts(t, r.h, &query.Query{Terms: both})); got != slow || slow == 0 {
		t.Errorf("%d slow events are found by key and file, %d were sent", got, slow)
	}
	if s := r.h.Stats(); s.Evicted() != 0 {
		t.Errorf("%d events were ended early", s.Evicted())
	}
}
