package report

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/search/madelog"
)

// TestTakeTimes counts by units of time in zones where intervals do not consist of these, and
// where the clock is set.
func TestTakeTimes(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	const from = 1761429600 // 26 October 2025 in Berlin; the clock is set back that night
	for _, tt := range []struct {
		every time.Duration
		loc   *time.Location
		whole bool
	}{
		{time.Hour, berlin, true}, {2 * time.Hour, berlin, true}, {24 * time.Hour, berlin, true}, {time.Minute, berlin, true},
		{time.Hour, time.FixedZone("half", 19800), false}, {24 * time.Hour, time.FixedZone("half", 19800), false},
		{time.Minute, time.FixedZone("half", 19800), true}, {time.Minute, time.FixedZone("odd", 3217), false},
	} {
		o := &Options{Group: &Group{Every: tt.every}}
		fields := o.groupFields()
		sum, read := query.NewTally(fields, nil), newGrouper(o, tt.loc)
		for sec := int64(from); sec < from+48*3600; sec += 600 {
			for _, more := range []int64{0, 1, 59, 300, 599} {
				ms := (sec + more) * 1000
				sum.Place("web1", ms, ms, 1)
				read.add(&facts{ev: &event.Event{Ms: ms}})
			}
		}
		counted := newGrouper(o, tt.loc)
		if got := counted.take(sum); got != tt.whole {
			t.Errorf("every %v in %v: %v, want %v", tt.every, tt.loc, got, tt.whole)
		}
		if !tt.whole {
			continue
		}
		if d := cmp.Diff(read.tally.sorted(strings.Compare), counted.tally.sorted(strings.Compare)); d != "" {
			t.Errorf("every %v in %v (-read +counted):\n%s", tt.every, tt.loc, d)
		}
	}
}

// TestExtractOnly reads fields of odd events alone, and with all others: a group by a field
// reads no more than it needs.
func TestExtractOnly(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	r := rand.New(rand.NewPCG(seed, 78))
	var x query.Extractor
	for range need.Rounds(20, 3) {
		text := madelog.Log(r, 150)
		for _, ev := range slices.Concat(eventsOf(text), eventsOf(spoil(r, text))) {
			all := map[query.Field][]string{}
			x.Extract(ev, func(f query.Field, v []byte) { all[f] = append(all[f], string(v)) })
			for f := range query.Field(query.NumFields) {
				var got []string
				x.ExtractOnly(ev, 1<<f, func(of query.Field, v []byte) {
					if of == f {
						got = append(got, string(v))
					}
				})
				if d := cmp.Diff(all[f], got); d != "" {
					t.Fatalf("seed %d: %s (-of all +alone):\n%s%v", seed, f, d, string(ev.Records[0].Raw))
				}
			}
		}
	}
}
