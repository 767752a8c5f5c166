package report

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Where the clock is set, days stay days and hours hours: the hour that comes twice
// is counted as two, and the one that is left out is none.
func TestEveryWhereTheClockIsSet(t *testing.T) {
	for _, c := range []struct {
		zone, from string
		hours      int // until when, an event every ten minutes
		every      time.Duration
		want       []string
		n          []int
	}{
		{
			"America/New_York", "2026-11-01T00:00:00-04:00", 5, time.Hour,
			[]string{"00:00 EDT", "01:00 EDT", "01:00 EST", "02:00 EST", "03:00 EST"}, []int{6, 6, 6, 6, 6},
		},
		{
			"America/New_York", "2026-11-01T00:00:00-04:00", 3, 15 * time.Minute,
			[]string{
				"00:00 EDT", "00:15 EDT", "00:30 EDT", "00:45 EDT", "01:00 EDT", "01:15 EDT", "01:30 EDT", "01:45 EDT",
				"01:00 EST", "01:15 EST", "01:30 EST", "01:45 EST",
			},
			[]int{2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1},
		},
		{"America/New_York", "2026-11-01T00:00:00-04:00", 26, 24 * time.Hour, []string{"00:00 EDT", "00:00 EST"}, []int{150, 6}},
		{"America/New_York", "2026-11-01T00:00:00-04:00", 25, 12 * time.Hour, []string{"00:00 EDT", "12:00 EST"}, []int{78, 72}},
		{"America/New_York", "2026-03-08T00:00:00-05:00", 3, time.Hour, []string{"00:00 EST", "01:00 EST", "03:00 EDT"}, []int{6, 6, 6}},
		{"America/New_York", "2026-03-08T00:00:00-05:00", 24, 24 * time.Hour, []string{"00:00 EST", "00:00 EDT"}, []int{138, 6}},
		{"Australia/Lord_Howe", "2026-04-05T00:30:00+11:00", 2, time.Hour, []string{"00:00 +11", "01:00 +11"}, []int{3, 9}},
	} {
		loc, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		from, err := time.Parse(time.RFC3339, c.from)
		if err != nil {
			t.Fatal(err)
		}
		var all []group
		for at := from; at.Before(from.Add(time.Duration(c.hours) * time.Hour)); at = at.Add(10 * time.Minute) {
			start := bucket(at.Unix(), int64(c.every/time.Second), loc)
			if len(all) == 0 || all[len(all)-1].at != start {
				all = append(all, group{at: start})
			}
			all[len(all)-1].n++
		}
		var got []string
		var n []int
		for _, g := range withEmpty(all, c.every, loc) {
			got, n = append(got, time.Unix(g.at, 0).In(loc).Format("15:04 MST")), append(n, int(g.n))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s by %v: %s", c.from, c.every, diff)
		}
		if diff := cmp.Diff(c.n, n); diff != "" {
			t.Errorf("%s by %v, events: %s", c.from, c.every, diff)
		}
	}
}
