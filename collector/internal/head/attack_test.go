package head

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// TestEventKeptOpen is a sender that keeps one event open with a record a second,
// beside one that sends a hundred times the journal's disk. None of the latter's
// records is refused, and the journal keeps its size: by carrying what is open alone,
// and with the limit on an event's age.
func TestEventKeptOpen(t *testing.T) {
	t.Parallel()
	const (
		table, segment, queue = 512 << 10, 256 << 10, 256 << 10
		// Two tables, the queue, the segments in which they begin and end.
		limit = 2*table + queue + 3*segment
		disk  = limit + segment
	)
	for name, age := range map[string]time.Duration{"carried": time.Hour, "ended": time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := faultfs.New(1)
			fs.SetSpace(disk)
			dir := t.TempDir()
			var clock atomic.Int64
			clock.Store(storetest.Start.UnixNano())
			var log strings.Builder
			change := func(j *journal.Options, o *Options) {
				j.FS, j.Dir, j.SegmentBytes, j.QueueBytes = fs, "/j", segment, queue
				o.TableBytes, o.MaxOpenAge = table, age
				o.Now = func() time.Time { return time.Unix(0, clock.Load()) }
				o.Logger = hclog.New(&hclog.LoggerOptions{Output: &log})
			}
			r := mustRig(t, dir, change)
			seconds := need.Size(130, 70)
			serial, largest := 0, int64(0)
			for sec := range seconds {
				clock.Add(int64(time.Second))
				r.put(t, plain(1, fmt.Sprintf("node=evil type=SYSCALL msg=audit(%d.000:1)", storetest.Start.Unix())+": n="+fmt.Sprint(sec)))
				for range 5 {
					var recs []string
					for range need.Size(200, 50) {
						serial++
						recs = append(recs, line("good", sec, serial, "USER_LOGIN", strings.Repeat("x", need.Size(200, 1000))))
					}
					r.put(t, plain(2, recs...))
				}
				size := r.j.Stats().DiskBytes
				if largest = max(largest, size); size > limit {
					t.Fatalf("second %d: the journal has %d bytes, %d is the limit", sec, size, limit)
				}
				if t.Failed() {
					t.Fatalf("second %d: a record was refused", sec)
				}
			}
			r.settle(t)
			st := r.h.Stats()
			t.Logf("journal at most %d bytes, limit %d, disk %d; %d records carried, %d events ended early",
				largest, limit, disk, r.j.Stats().Carried, st.Evicted())
			if got := len(texts(t, r.h, &query.Query{Nodes: []string{"good"}})); got != serial {
				t.Errorf("%d of %d records of the good sender", got, serial)
			}
			want := uint64(0)
			if age == time.Minute {
				want = uint64(seconds-1) / 60
			}
			if st.Early[EarlyAge] != want || st.Evicted() != want {
				t.Errorf("ended early: %v, want %d for their age", st.Early, want)
			}
			if want == 0 && r.j.Stats().Carried == 0 {
				t.Error("nothing was carried")
			}
			if err := r.close(); err != nil {
				t.Fatal(err)
			}
			if said := strings.Contains(log.String(), "host=evil sender=10.0.0.1 max_open_age="); said != (want > 0) {
				t.Errorf("the log says\n%s", log.String())
			}
			// The event is whole after a restart, when its end comes.
			r = mustRig(t, dir, change)
			r.put(t, plain(1, line("evil", 0, 1, "PROCTITLE", "x")))
			r.settle(t)
			records := 0
			err := r.h.Scan(context.Background(), &query.Query{Nodes: []string{"evil"}}, func(ev *event.Event) error {
				records += len(ev.Records)
				return nil
			})
			if err != nil || records != seconds+1 {
				t.Errorf("%d records of the event, %v; want %d", records, err, seconds+1)
			}
		})
	}
}
