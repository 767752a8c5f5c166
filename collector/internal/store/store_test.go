package store_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
)

func TestTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var evs [][][]byte
		var text [2][]byte
		var where []int
		for range rapid.IntRange(1, 5).Draw(t, "events") {
			ev := &event.Event{}
			var raws [][]byte
			for range rapid.IntRange(1, 4).Draw(t, "records") {
				raw := rapid.SliceOfN(rapid.SampledFrom([]byte("ab\n \x00=")), 0, 6).Draw(t, "raw")
				raws = append(raws, raw)
				ev.Records = append(ev.Records, record.Record{Raw: raw})
			}
			one, counted := store.AppendText(nil, ev)
			k := 0
			if counted {
				k = 1
			}
			text[k] = append(text[k], one...)
			where = append(where, k)
			evs = append(evs, raws)
		}
		for i, k := range where {
			one, rest, err := store.CutText(text[k], k == 1)
			if err != nil {
				t.Fatal(err)
			}
			text[k] = rest
			ev := store.ParseText(one, k == 1, []byte("h"), store.Origin{})
			if len(ev.Records) != len(evs[i]) {
				t.Fatalf("%d records, want %d", len(ev.Records), len(evs[i]))
			}
			for r := range evs[i] {
				if !bytes.Equal(ev.Records[r].Raw, evs[i][r]) {
					t.Fatalf("%q, want %q", ev.Records[r].Raw, evs[i][r])
				}
			}
		}
		if len(text[0])+len(text[1]) != 0 {
			t.Fatal("text is left over")
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add([]byte("type=A msg=audit(1.000:1): x\ntype=EOE\n\n"), false)
	f.Add([]byte("\x02\x01a\x00"), true)
	f.Fuzz(func(t *testing.T, b []byte, counted bool) {
		for len(b) > 0 {
			one, rest, err := store.CutText(b, counted)
			if err != nil {
				return
			}
			if len(one)+len(rest) != len(b) || len(one) == 0 {
				t.Fatalf("cut %d and %d of %d", len(one), len(rest), len(b))
			}
			store.ParseText(one, counted, nil, store.Origin{})
			b = rest
		}
	})
}

// TestTableSelect compares what a table finds, with its vocabulary, with a
// matcher on every event, while the table is filled.
func TestTableSelect(t *testing.T) {
	tab := store.NewTable()
	g := storetest.NewGenerator(21, storetest.Templates(t), 4, storetest.Start)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Add(1)
	go func() {
		defer wg.Done()
		for last := 0; ; {
			for _, q := range storetest.Queries() {
				_ = tab.View().Select(q)
			}
			if n := len(tab.View().Select(&query.Query{})); n < last {
				t.Errorf("%d events, %d before", n, last)
			} else {
				last = n
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	for range 20 {
		storetest.Fill(tab, g, 100)
	}
	close(stop)
	wg.Wait()
	ref := storetest.NewReference()
	if err := ref.Append(context.Background(), &store.Batch{ID: 1, Events: tab}); err != nil {
		t.Fatal(err)
	}
	for name, q := range storetest.Queries() {
		var got []string
		m := query.NewMatcher(q)
		for _, r := range tab.View().Select(q) {
			if ev := r.Event(); m.Match(ev) {
				got = append(got, storetest.TextFor(q, ev))
			}
		}
		if d := cmp.Diff(storetest.Collect(t, ref, q), got); d != "" {
			t.Errorf("%s (-reference +table):\n%.1500s", name, d)
		}
	}
	if st := tab.Stats(); st.Events != 2000 || st.RawBytes == 0 || st.MemBytes < st.RawBytes || st.MinMs < storetest.Start.UnixMilli() {
		t.Errorf("%+v", st)
	}
}

func TestTableAddAllocates(t *testing.T) {
	tab := store.NewTable()
	g := storetest.NewGenerator(1, storetest.Templates(t), 1, storetest.Start)
	var evs []*event.Event
	for range 3000 {
		host, recs := g.Event()
		var raw []string
		for _, r := range recs {
			raw = append(raw, string(r))
		}
		evs = append(evs, storetest.Parse(host, raw...))
	}
	for _, ev := range evs {
		tab.Add("web1.example.net", ev)
	}
	i := 0
	if n := testing.AllocsPerRun(1000, func() { tab.Add("web1.example.net", evs[i]); i++ }); n > 1 {
		t.Errorf("%.1f allocations for an event of known values", n)
	}
}

func TestDay(t *testing.T) {
	for _, s := range []string{"2026-11-22", "1970-01-01", "1969-12-31", "2106-02-07"} {
		d, err := store.ParseDay(s)
		if err != nil || d.String() != s || store.DayOf(d.Time().Add(24*time.Hour-1)) != d {
			t.Errorf("%s: %v %v", s, d, err)
		}
	}
	if _, err := store.ParseDay("yesterday"); err == nil {
		t.Error("yesterday is a day")
	}
}
