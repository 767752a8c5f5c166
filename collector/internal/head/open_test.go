package head

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// patient has no event end by itself.
func patient(_ *journal.Options, o *Options) { o.EventTimeout = time.Hour }

// TestFoundAtOnce: what was acknowledged is found by a search that starts then, though its
// event is not complete; also after a stop, and in the files of a collector that was killed.
func TestFoundAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := mustRig(t, dir, patient)
	r.put(t, plain(1,
		line("web1", 1, 1, "AVC", `avc:  denied  { read } for  pid=7 comm="cat" scontext=a tcontext=b tclass=file permissive=0`),
		line("web1", 1, 2, "SYSCALL", `arch=c000003e syscall=257 success=yes pid=8 comm="vi" exe="/usr/bin/vi" key="home"`),
		line("web1", 1, 2, "PATH", `item=0 name="/home/x"`)))
	r.put(t, plain(1, line("web1", 1, 3, "CONFIG_CHANGE", `auid=0 op=add_rule key="home" list=4 res=1`), line("web2", 1, 4, "ANOM_LINK", `op=linkat pid=9 comm="ln"`)))
	key := []query.Term{{Fields: []query.Field{query.FieldKey}, Op: query.OpEqual, Text: "home"}}
	check := func(why string, h *Head) {
		t.Helper()
		for name, c := range map[string]struct {
			q       query.Query
			serials []int
		}{
			"all":     {query.Query{}, []int{1, 2, 3, 4}},
			"reverse": {query.Query{Reverse: true}, []int{4, 3, 2, 1}},
			"limit":   {query.Query{Limit: 2}, []int{1, 2}},
			"type":    {query.Query{Types: []uint32{1400}}, []int{1}},
			"node":    {query.Query{Nodes: []string{"web2"}}, []int{4}},
			"serial":  {query.Query{Serial: 3, HasSerial: true}, []int{3}},
			"key":     {query.Query{Terms: key}, []int{2, 3}},
			"two properties": {query.Query{Terms: append(key, query.Term{Fields: []query.Field{query.FieldFile}, Op: query.OpEqual, Text: "/home/x"})},
				[]int{2}},
			"earlier": {query.Query{EndMs: 1795334400999}, nil},
			"later":   {query.Query{StartMs: 1795334401001}, nil},
		} {
			var got []int
			if err := h.Scan(t.Context(), &c.q, func(ev *event.Event) error { got = append(got, int(ev.Serial)); return nil }); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got) != fmt.Sprint(c.serials) {
				t.Errorf("%s: %s: events %d, want %d", why, name, got, c.serials)
			}
			if sum, err := h.Tally(t.Context(), &c.q, nil, nil); err != nil || int(sum.Events) != len(c.serials) {
				t.Errorf("%s: %s: %d are counted (%v), want %d", why, name, sum.Events, err, len(c.serials))
			}
		}
		rest := 0
		sum, err := h.Tally(t.Context(), &query.Query{Nodes: []string{"web1"}}, []query.Field{query.FieldKey}, func(*event.Event) error { rest++; return nil })
		if err != nil || int(sum.Events)+rest != 3 {
			t.Errorf("%s: %d and %d events are counted by key (%v), want 3", why, sum.Events, rest, err)
		}
	}
	check("running", r.h)
	if got := texts(t, r.h, &query.Query{Batches: true}); len(got) != 0 {
		t.Errorf("where events have batches there are open ones: %q", got)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	r = mustRig(t, dir, patient)
	check("after a restart", r.h)
	h := openCopy(t, r, dir)
	check("files", h)
}

// TestOpenWhileStoring searches while events come record by record, are complete and
// stored: whoever looks finds each event once, with some of its first records, and all of
// it that was acknowledged before. What was found stays as it was, though the memory of open
// events is used again.
func TestOpenWhileStoring(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) { o.TableBytes, o.EventTimeout = 10<<10, time.Hour })
	n := need.Size(1500, 400)
	types := []string{"SYSCALL", "CWD", "PATH", "PATH", "PROCTITLE"}
	raw := func(serial, i int) string {
		return line("h"+fmt.Sprint(serial%3), 1, serial, types[i], fmt.Sprintf("i=%d pid=%d", i, serial))
	}
	var mu sync.Mutex // guards acknowledged
	acknowledged := map[int]int{}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for over := false; !over; {
				select {
				case <-done:
					over = true
				default:
				}
				mu.Lock()
				least := make(map[int]int, len(acknowledged))
				for serial, records := range acknowledged {
					least[serial] = records
				}
				mu.Unlock()
				var kept []*event.Event
				if err := r.h.Scan(t.Context(), &query.Query{}, func(ev *event.Event) error { kept = append(kept, ev); return nil }); err != nil {
					t.Error(err)
					return
				}
				seen := map[int]bool{}
				for _, ev := range kept {
					serial := int(ev.Serial)
					if seen[serial] {
						t.Errorf("event %d is found twice", serial)
						return
					}
					seen[serial] = true
					if len(ev.Records) < least[serial] {
						t.Errorf("event %d has %d records, %d were acknowledged", serial, len(ev.Records), least[serial])
						return
					}
					for i := range ev.Records {
						if string(ev.Records[i].Raw) != raw(serial, i) || string(ev.Node) != "h"+fmt.Sprint(serial%3) {
							t.Errorf("event %d: record %d is %q", serial, i, ev.Records[i].Raw)
							return
						}
					}
				}
				for serial := range least {
					if !seen[serial] {
						t.Errorf("event %d is not found", serial)
						return
					}
				}
			}
		})
	}
	// Five events at a time, by turns.
	for first := 0; first < n; first += 5 {
		for i := range types {
			var list []string
			for serial := first; serial < first+5; serial++ {
				list = append(list, raw(serial, i))
			}
			r.put(t, plain(1, list...))
			mu.Lock()
			for serial := first; serial < first+5; serial++ {
				acknowledged[serial] = i + 1
			}
			mu.Unlock()
		}
	}
	close(done)
	wg.Wait()
	if id := r.h.Stats().StoredID; id < 10 {
		t.Errorf("only %d tables were stored meanwhile", id)
	}
}

// TestPagesOfOpenEvents: pages and followers have an event once it is complete, and once.
func TestPagesOfOpenEvents(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), patient)
	for serial := range 6 {
		r.put(t, plain(1, line("a", 1, serial+1, "SYSCALL", "pid=1")))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex // guards followed
	followed := map[uint64]int{}
	began := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		first := true
		err := r.h.Follow(ctx, &query.Query{StartMs: 1}, func(ev *event.Event) error {
			mu.Lock()
			defer mu.Unlock()
			if followed[ev.Serial]++; len(ev.Records) != 2 {
				t.Errorf("event %d is followed with %d records", ev.Serial, len(ev.Records))
			}
			if len(followed) == 6 {
				return query.ErrStop
			}
			return nil
		}, func(uint64) error {
			if first {
				close(began)
			}
			first = false
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-began
	seen := map[string]int{}
	q := &query.Query{Batches: true, Limit: 2}
	for serial := range 6 { // each is complete just before a page that ends in the middle
		if serial%2 == 1 {
			page, last := scanned(t, r.h, q)
			for _, text := range page {
				seen[text]++
			}
			if last != nil {
				q.After = last
			}
		}
		r.put(t, plain(1, line("a", 1, serial+1, "PROCTITLE", "x")))
	}
	page, _ := scanned(t, r.h, q)
	for _, text := range page {
		seen[text]++
	}
	wg.Wait()
	for serial := range 6 {
		if text := line("a", 1, serial+1, "SYSCALL", "pid=1"); seen[text] > 1 {
			t.Errorf("on pages %d times: %s", seen[text], text)
		}
		if followed[uint64(serial+1)] != 1 {
			t.Errorf("event %d was followed %d times", serial+1, followed[uint64(serial+1)])
		}
	}
	if len(seen) < 5 {
		t.Errorf("%d events on all pages", len(seen))
	}
}

// TestManyOpenEvents: open events of many hosts are found, and cost a search of one host next to nothing.
func TestManyOpenEvents(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) { o.EventTimeout, o.NewNames = time.Hour, -1 })
	hosts := need.Size(1000, 200)
	for host := range hosts {
		var list []string
		for serial := range 10 {
			list = append(list, line(fmt.Sprint("h", host), 1, serial, "SYSCALL", "pid=1 "+strings.Repeat("x", 300)), line(fmt.Sprint("h", host), 1, serial, "PATH", "item=0"))
		}
		r.put(t, plain(1, list...))
	}
	begin := time.Now()
	if got := texts(t, r.h, &query.Query{}); len(got) != 10*hosts {
		t.Errorf("%d events, want %d", len(got), 10*hosts)
	}
	all := time.Since(begin)
	begin = time.Now()
	if got := texts(t, r.h, &query.Query{Nodes: []string{"h7"}}); len(got) != 10 || !strings.HasPrefix(got[0], "h7 ") {
		t.Errorf("%d events of one host, want 10", len(got))
	}
	one := time.Since(begin)
	begin = time.Now()
	r.h.mu.RLock()
	now := r.h.present(&query.Query{}, true)
	r.h.mu.RUnlock()
	t.Logf("%d open events: all in %v, of one host in %v, copied in %v", len(now.open), all, one, time.Since(begin))
	stop := errors.New("stop")
	if err := r.h.Scan(t.Context(), &query.Query{}, func(*event.Event) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a scan that is ended at an open event: %v", err)
	}
	if got := storetest.Text(now.open[0].Event()); !strings.Contains(got, "PATH") {
		t.Errorf("an event of two records is %q", got)
	}
}
