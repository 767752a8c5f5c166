package head

import (
	"fmt"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// scanned gives the events that a query finds, as text.
func scanned(t *testing.T, h *Head, q *query.Query) (texts []string, last *query.Cursor) {
	t.Helper()
	err := h.Scan(t.Context(), q, func(ev *event.Event) error {
		at := query.CursorOf(ev)
		last = &at
		texts = append(texts, string(ev.Records[0].Raw))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts, last
}

// Pages of a store with many events equal in time, name and serial, of several senders
// and batches, some in memory, are together what one scan gives, while others come in.
func TestPages(t *testing.T) {
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) { o.TableBytes = 20 << 10 })
	n := 0
	put := func(late string) {
		for conn := range 3 {
			var raw []string
			for range 7 {
				n++
				raw = append(raw, line([]string{"a", "b"}[n%2], n%3, n%2, "USER_LOGIN", fmt.Sprintf("pid=1 %s n=%d", late, n)))
			}
			r.put(t, plain(uint64(conn+1), raw...))
		}
	}
	for range 60 {
		put("early")
	}
	r.settle(t)
	put("early")
	early := []query.Filter{{Field: &query.FieldTest{Name: "n", Op: query.OpRegexp, Text: "."}}}
	for _, reverse := range []bool{false, true} {
		want, _ := scanned(t, r.h, &query.Query{Reverse: reverse, Filters: early})
		if s := r.h.Stats(); s.StoredID < 2 || s.TableEvents == 0 {
			t.Fatalf("%d batches are stored and %d events in memory: the test shows little", s.StoredID, s.TableEvents)
		}
		is := map[string]bool{}
		for _, text := range want {
			is[text] = true
		}
		seen := map[string]int{}
		var got []string
		q := &query.Query{Reverse: reverse, Filters: early, Batches: true, Limit: 37}
		for {
			page, last := scanned(t, r.h, q)
			for _, text := range page {
				if seen[text]++; is[text] {
					got = append(got, text)
				}
			}
			if q.After = last; len(page) < 37 {
				break
			}
			if len(seen) < len(want)/2 {
				put("late")
			}
		}
		same(t, fmt.Sprintf("reverse %v", reverse), want, got)
		for text, times := range seen {
			if times != 1 {
				t.Errorf("reverse %v: %d times: %s", reverse, times, text)
			}
		}
	}
}

// Counting says how many events a scan gives, whether the index knows or not.
func TestCount(t *testing.T) {
	r := mustRig(t, t.TempDir(), small)
	list, _ := batches(t, 11, 3, 4000, 10)
	r.put(t, list...)
	r.settle(t)
	for name, q := range map[string]*query.Query{
		"all":     {},
		"limit":   {Limit: 100},
		"no more": {Limit: 1 << 40},
		"node":    {Nodes: []string{"web1.example.net"}},
		"time":    {StartMs: 1795334403000, EndMs: 1795334500000},
		"types":   {Types: []uint32{1300}},
		"batches": {AfterBatch: 1},
		"nothing": {EndMs: 1},
	} {
		want, _ := scanned(t, r.h, q)
		sum, err := r.h.Tally(t.Context(), q, nil, nil)
		if err != nil || sum.Events != int64(len(want)) {
			t.Errorf("%s: %d, %v; a scan gives %d", name, sum.Events, err, len(want))
		}
	}
}
