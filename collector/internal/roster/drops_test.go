package roster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// What was dropped since a collector wrote its account for the last time is not there, for whoever answers from that: what of it was the host's is said to be dropped, of a day that goes
// on and of whatever class, and an answer whose begin is open begins behind it. What others had in it, and what was dropped before the account was written, change nothing,
// nor do the clocks of who wrote either: the one was ahead, the other behind.
func TestAbsentDrops(t *testing.T) {
	t.Parallel()
	day := func(d int) int64 { return time.Date(2026, 3, 1+d, 0, 0, 0, 0, time.UTC).UnixMilli() }
	data, err := proto.Marshal(&fleet.Coverage{Host: []byte("web1"), State: "complete", FromMs: day(0), ToMs: day(3), Records: 30, ByStatementsMs: day(3) - day(0)})
	if err != nil {
		t.Fatal(err)
	}
	at, early := day(3), day(3)-dropsBack.Milliseconds()
	hour := func(d, h int) int64 { return day(d) + int64(h)*3_600_000 }
	gone := func(host, class string, d, from, to int, when int64) store.HostGone {
		return store.HostGone{Host: host, Class: class, Part: store.Part{Day: store.DayOf(time.UnixMilli(day(d))), N: 1}, At: at - day(1), Taken: when, FromMs: hour(d, from) + 5, ToMs: hour(d, to) - 5}
	}
	l := &list{accounts: []store.MemberHost{{Host: "web1", At: at + day(365), Taken: at, Data: data}}}
	ask := func(from, to int64) (out string) {
		t.Helper()
		a := &absent{r: opened(l), m: store.Member{Store: "b", Name: "west"}}
		err := a.Coverage(t.Context(), &fleet.CoverageRequest{Hosts: [][]byte{[]byte("web1")}, FromMs: from, ToMs: to, Intervals: true}, func(c *fleet.Coverage) error {
			out = fmt.Sprintf("%s from hour %d, %d records", c.GetState(), (c.GetFromMs()-day(0))/3_600_000, c.GetRecords())
			for _, x := range c.GetIntervals() {
				out += fmt.Sprintf("; %s of hour %d to %d, was %s", x.GetCause(), (x.GetFromMs()-day(0))/3_600_000, (x.GetToMs()-day(0))/3_600_000, x.GetWas())
			}
			for _, x := range c.GetNotes() {
				out += fmt.Sprintf("; note %s of hour %d to %d", x.GetCause(), (x.GetFromMs()-day(0))/3_600_000, (x.GetToMs()-day(0))/3_600_000)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return out
	}
	for _, c := range []struct {
		gone     []store.HostGone
		from, to int64
		want     string
	}{
		{nil, day(0), day(3), "complete from hour 0, 30 records"},
		{[]store.HostGone{gone("web1", "", 0, 0, 24, early)}, day(0), day(3), "complete from hour 0, 30 records"},
		// It was told, and the part not dropped yet, as the account was copied.
		{[]store.HostGone{gone("web1", "", 0, 0, 24, early+1)}, day(0), day(3), "lost from hour 0, 0 records; retention of hour 0 to 24, was complete"},
		{[]store.HostGone{gone("web2", "web*", 0, 0, 24, at+1)}, day(0), day(3), "complete from hour 0, 30 records"},
		{[]store.HostGone{gone("web1", "", 0, 0, 24, at+1)}, day(0), day(3), "lost from hour 0, 0 records; retention of hour 0 to 24, was complete"},
		{[]store.HostGone{gone("web1", "", 0, 0, 24, at+1)}, day(1), day(3), "complete from hour 24, 0 records"},
		{[]store.HostGone{gone("web1", "", 0, 0, 24, at+1)}, 0, 0, "complete from hour 23, 0 records"},
		// Parts of a day that is there, of a class that does not name the host, and of several.
		{[]store.HostGone{gone("web1", "", 2, 3, 7, at+1)}, day(0), day(3), "lost from hour 0, 0 records; retention of hour 51 to 55, was complete"},
		{[]store.HostGone{gone("web1", "* 0badcafe", 1, 3, 7, at+1), gone("web1", store.Undivided, 1, 6, 9, at+2), gone("web1", "web*", 2, 1, 2, at+1)}, day(0), day(3),
			"lost from hour 0, 0 records; retention of hour 27 to 33, was complete; retention of hour 49 to 50, was complete"},
		{[]store.HostGone{gone("web1", "key noise", 1, 3, 7, at+1)}, day(0), day(3), "lost from hour 0, 0 records; retention-key of hour 27 to 31, was complete"},
		{[]store.HostGone{gone("web1", "key noise", 1, 3, 7, at+1)}, 0, 0, "complete from hour 0, 0 records; note retention-key of hour 27 to 31"},
		// It may be any host.
		{[]store.HostGone{gone("", "* 0badcafe", 1, 3, 7, at+1)}, day(0), day(3), "lost from hour 0, 0 records; retention of hour 27 to 31, was complete"},
	} {
		l.gone = c.gone
		if got := ask(c.from, c.to); got != c.want {
			t.Errorf("%+v, %d to %d: %s; want %s", c.gone, c.from, c.to, got, c.want)
		}
	}
}

// What was dropped of an absent collector's many hosts is read for some of these at a time, each with what was dropped since about its own account, though one is of long ago.
func TestAbsentDropsOfMany(t *testing.T) {
	t.Parallel()
	const hosts, days, day = 2000, 20, 86_400_000
	l := &list{}
	for h := range hosts {
		name := fmt.Sprintf("web%04d", (h*7)%hosts)
		data, err := proto.Marshal(&fleet.Coverage{Host: []byte(name), State: "complete", FromMs: day, ToMs: (days + 2) * day, Records: 30})
		if err != nil {
			t.Fatal(err)
		}
		taken := int64(days * day)
		if h == hosts/2 {
			taken = day
		}
		l.accounts = append(l.accounts, store.MemberHost{Host: name, Taken: taken, Data: data})
		for d := range int64(days + 1) {
			l.gone = append(l.gone, store.HostGone{Host: name, Part: store.Part{Day: store.Day(d), N: 1}, Taken: d*day + 1, FromMs: d * day, ToMs: d*day + 1})
		}
	}
	a := &absent{r: opened(l), m: store.Member{Store: "b", Name: "west"}}
	said, dropped := map[string]bool{}, 0
	if err := a.Coverage(t.Context(), &fleet.CoverageRequest{FromMs: day, ToMs: (days + 1) * day, Intervals: true}, func(c *fleet.Coverage) error {
		said[string(c.GetHost())] = true
		dropped += len(c.GetIntervals())
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(said) != hosts || dropped != hosts-1+days {
		t.Errorf("%d hosts with %d drops", len(said), dropped)
	}
	if l.most > copyHosts*days || l.most == 0 {
		t.Errorf("%d drops are read at once", l.most)
	}
}

// What was dropped of a day that goes on is in this collector's own answers, too, as they go to whoever asks, and in the copy of its account; what that has itself stays with its figures.
func TestOwnDrops(t *testing.T) {
	t.Parallel()
	const hour = 3_600_000
	partial := store.Part{Day: 5, N: 1}
	gone := func(host, class string, from, to int64) store.HostGone {
		return store.HostGone{Host: host, Class: class, Part: partial, At: 99, Taken: 99, FromMs: from*hour + 5, ToMs: to*hour - 5}
	}
	c := &fleet.Coverage{Host: []byte("web1"), State: "complete", FromMs: hour, ToMs: 9 * hour, Records: 30, Intervals: []*fleet.CoverageInterval{
		{Cause: "retention", Hop: "collector", State: "lost", FromMs: 7 * hour, ToMs: 8 * hour, Records: 4, DroppedMs: 98, Was: "complete"},
	}}
	l := &list{unaged: []store.Part{partial}}
	r := opened(l)
	r.cfg.Own = &said{c: c}
	ask := func(req *fleet.CoverageRequest) (out string) {
		t.Helper()
		req.Hosts, req.Own = [][]byte{[]byte("web1")}, true
		if err := r.Coverage(t.Context(), req, func(c *fleet.Coverage) error {
			out = fmt.Sprintf("%s from hour %d, %d records", c.GetState(), c.GetFromMs()/hour, c.GetRecords())
			for _, x := range c.GetCauses() {
				out += fmt.Sprintf("; %s %d of hour %d to %d", x.GetCause(), x.GetRecords(), x.GetFromMs()/hour, x.GetToMs()/hour)
			}
			for _, x := range c.GetNotes() {
				out += fmt.Sprintf("; note %s of hour %d to %d", x.GetCause(), x.GetFromMs()/hour, x.GetToMs()/hour)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		return out
	}
	for _, x := range []struct {
		partly []store.HostGone
		from   int64
		note   bool
		want   string
	}{
		{nil, hour, false, "complete from hour 1, 30 records"},
		{[]store.HostGone{gone("web2", "", 2, 4)}, hour, false, "complete from hour 1, 30 records"},
		{[]store.HostGone{gone("web1", "", 2, 4)}, hour, false, "lost from hour 1, 0 records; retention 4 of hour 2 to 8"},
		{[]store.HostGone{gone("web1", "", 7, 8)}, hour, false, "lost from hour 1, 30 records; retention 4 of hour 7 to 8"},
		{[]store.HostGone{gone("web1", "web*", 2, 4)}, 0, false, "lost from hour 3, 0 records; retention 4 of hour 7 to 8"},
		{[]store.HostGone{gone("web1", "key k", 2, 4)}, 5 * hour, true, "lost from hour 0, 0 records; retention 4 of hour 7 to 8"},
		{[]store.HostGone{gone("web1", "key k", 2, 4)}, 2 * hour, true, "lost from hour 0, 0 records; retention 4 of hour 7 to 8; retention-key 0 of hour 2 to 4"},
	} {
		l.gone = x.partly
		if got := ask(&fleet.CoverageRequest{FromMs: x.from, Note: x.note}); got != x.want {
			t.Errorf("%+v from %d: %s; want %s", x.partly, x.from/hour, got, x.want)
		}
	}
	l.gone = []store.HostGone{gone("web1", "", 2, 4)}
	r.news["web1"] = true
	l.begins = true
	if err := r.CopyAccounts(t.Context()); err != nil || len(l.accounts) != 0 {
		t.Fatalf("a copy is made though it may lack drops: %v", err)
	}
	l.begins = false
	if err := r.CopyAccounts(t.Context()); err != nil || len(l.accounts) != 1 {
		t.Fatal(err, l.accounts)
	}
	copied := &fleet.Coverage{}
	if err := proto.Unmarshal(l.accounts[0].Data, copied); err != nil || len(copied.GetIntervals()) != 1 || copied.GetFromMs() != 4*hour-4 {
		t.Errorf("the copy: %+v, %v", copied, err)
	}
}

// said is a collector that gives one answer.
type said struct {
	api.Source
	c *fleet.Coverage
}

func (s *said) Coverage(_ context.Context, req *fleet.CoverageRequest, fn func(*fleet.Coverage) error) error {
	c := proto.CloneOf(s.c)
	if !req.GetIntervals() {
		c.Intervals = nil
	}
	return fn(c)
}
