package roster

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// What was dropped since a collector wrote its account for the last time is not there, for whoever answers from that: it is said to be dropped, and an answer whose begin is open
// begins behind it. A part of a day, and what was dropped before the account was written, change nothing.
func TestAbsentDrops(t *testing.T) {
	t.Parallel()
	day := func(d int) int64 { return time.Date(2026, 3, 1+d, 0, 0, 0, 0, time.UTC).UnixMilli() }
	data, err := proto.Marshal(&fleet.Coverage{Host: []byte("web1"), State: "complete", FromMs: day(0), ToMs: day(3), Records: 30, ByStatementsMs: day(3) - day(0)})
	if err != nil {
		t.Fatal(err)
	}
	at := day(3)
	part := func(d int, when int64, gone bool) store.DroppedPart {
		return store.DroppedPart{Part: store.Part{Day: store.DayOf(time.UnixMilli(day(d))), N: 1}, At: time.UnixMilli(when), DayGone: gone}
	}
	ofClass := func(d int, class string) []store.DroppedPart {
		p := part(d, at+1, false)
		p.Class, p.ClassGone = class, true
		return []store.DroppedPart{p}
	}
	l := &list{accounts: []store.MemberHost{{Host: "web1", At: at, Data: data}}}
	ask := func(from, to int64) (out string) {
		t.Helper()
		a := &absent{r: opened(l), m: store.Member{Store: "b", Name: "west"}}
		err := a.Coverage(t.Context(), &fleet.CoverageRequest{Hosts: [][]byte{[]byte("web1")}, FromMs: from, ToMs: to, Intervals: true}, func(c *fleet.Coverage) error {
			out = fmt.Sprintf("%s from day %d, %d records", c.GetState(), (c.GetFromMs()-day(0))/86_400_000, c.GetRecords())
			for _, x := range c.GetIntervals() {
				out += fmt.Sprintf("; %s of day %d to %d, was %s", x.GetCause(), (x.GetFromMs()-day(0))/86_400_000, (x.GetToMs()-day(0))/86_400_000, x.GetWas())
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return out
	}
	for _, c := range []struct {
		drops    []store.DroppedPart
		from, to int64
		want     string
	}{
		{nil, day(0), day(3), "complete from day 0, 30 records"},
		{[]store.DroppedPart{part(0, at-1, true), part(1, at+1, false)}, day(0), day(3), "complete from day 0, 30 records"},
		{[]store.DroppedPart{part(0, at+1, true)}, day(0), day(3), "lost from day 0, 0 records; retention of day 0 to 1, was complete"},
		{[]store.DroppedPart{part(0, at+1, true)}, day(1), day(3), "complete from day 1, 0 records"},
		{[]store.DroppedPart{part(0, at+1, true)}, 0, 0, "complete from day 1, 0 records"},
		{ofClass(0, "web*"), day(0), day(3), "lost from day 0, 0 records; retention of day 0 to 1, was complete"},
		{ofClass(0, "db*"), day(0), day(3), "complete from day 0, 30 records"},
		{ofClass(0, "key web1"), day(0), day(3), "complete from day 0, 30 records"},
	} {
		l.drops = c.drops
		if got := ask(c.from, c.to); got != c.want {
			t.Errorf("%d drops, %d to %d: %s; want %s", len(c.drops), c.from, c.to, got, c.want)
		}
	}
}
