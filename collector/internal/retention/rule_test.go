package retention

import (
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

func TestRules(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  string // the rules, or what the error has
	}{
		{[]string{"web*: 400d"}, "web*: 400d"},
		{[]string{"web*:400d,50G"}, "web*: 400d, 50G"},
		{[]string{"web*: 400d", "key noise: 7d", "web*: 50G"}, "web*: 400d, 50G; key noise: 7d"},
		{[]string{"key a b*: 1d"}, "key a b*: 1d"},
		{[]string{"key x:y: 1d"}, "key x:y: 1d"},
		{[]string{"web* 400d"}, "no colon"},
		{[]string{": 400d"}, "no hosts and no key"},
		{[]string{"key : 400d"}, "no hosts and no key"},
		{[]string{"web1, web2: 400d"}, "not one pattern"},
		{[]string{"web*:"}, "no limit"},
		{[]string{"web*: 0d"}, "not a number of days"},
		{[]string{"web*: -3d"}, "not a number of days"},
		{[]string{"web*: 3d, 4d"}, "given once"},
		{[]string{"web*: 3w"}, "3w"},
		{[]string{"web*: 0K"}, "not a size"},
		{[]string{"web*: 90"}, "neither a number of days"},
		{[]string{"web*: 400d, 50"}, "neither a number of days"},
		{[]string{"web*: 3d", "web*: 4d"}, "in a line before"},
		{[]string{strings.Repeat("x", 300) + ": 3d"}, "300 bytes"},
	} {
		var r Rules
		var err error
		for _, line := range c.lines {
			if err == nil {
				err = r.Add(line)
			}
		}
		var got []string
		for _, rule := range r {
			got = append(got, rule.String())
		}
		switch {
		case err != nil && !strings.Contains(err.Error(), c.want):
			t.Errorf("%q: %v, want %q", c.lines, err, c.want)
		case err == nil && strings.Join(got, "; ") != c.want:
			t.Errorf("%q: %q, want %q", c.lines, got, c.want)
		}
	}
	var many Rules
	for i := range 100 {
		if err := many.Add("h" + strings.Repeat("x", i) + ": 1d"); err != nil && i < maxRules {
			t.Fatal(err)
		}
	}
	if len(many) != maxRules {
		t.Errorf("%d rules", len(many))
	}
}

// droppedOf plays retention over parts until nothing has to be dropped, and returns what was dropped, with why.
func droppedOf(t *testing.T, l Limits, parts []store.PartStats, today store.Day, held func(*store.PartStats) bool) (out []string) {
	t.Helper()
	for range 100 {
		size := uint64(0)
		for _, p := range parts {
			size += p.DiskBytes
		}
		p, reason := l.beyond(agesOf(parts, today, held), size, held)
		if p == nil {
			return out
		}
		out = append(out, p.Part.String()+" "+l.why(p, reason))
		var rest []store.PartStats
		for _, x := range parts {
			if x.Part != p.Part {
				rest = append(rest, x)
			}
		}
		parts = rest
	}
	t.Fatal("it never ends")
	return nil
}

func TestClasses(t *testing.T) {
	var rules Rules
	for _, line := range []string{"web*: 400d", "key noise: 7d", "db*: 1K"} {
		if err := rules.Add(line); err != nil {
			t.Fatal(err)
		}
	}
	rules[2].Bytes = 50
	today := store.DayOf(time.Date(2026, 7, 30, 0, 0, 0, 0, time.UTC))
	rest := rules.Classes().Rest()
	part := func(ago, n int, class string, bytes uint64) store.PartStats {
		return store.PartStats{Part: store.Part{Day: today - store.Day(ago), N: n}, Received: today - 2, LastID: 1, Sealed: true, Compacted: true, Class: class, DiskBytes: bytes}
	}
	parts := []store.PartStats{
		part(500, 1, "web*", 10), part(500, 2, "", 10), part(390, 2, "", 10), part(300, 1, "web*", 10), part(90, 1, rest, 10), part(90, 2, "* 00000000", 10),
		part(29, 1, rest, 10), part(8, 1, "key noise", 10), part(6, 2, "key noise", 10), part(5, 1, "db*", 30), part(4, 1, "db*", 30), part(2, 1, rest, 10),
		{Part: store.Part{Day: today, N: 1}, Received: today, LastID: 9, DiskBytes: 10},
	}
	d := func(ago, n int) string { return store.Part{Day: today - store.Day(ago), N: n}.String() + " " }
	for _, c := range []struct {
		name string
		l    Limits
		held func(*store.PartStats) bool
		want []string
	}{
		{"each for its time, by size the oldest of its class", Limits{MaxDays: 30, Rules: rules}, nil,
			[]string{d(500, 1) + "retain = web*: 400d", d(500, 2) + "retain: 400 days", d(90, 1) + "max_days = 30", d(8, 1) + "retain = key noise: 7d", d(5, 1) + "retain = db*: 50"}},
		{"on hold", Limits{MaxDays: 30, Rules: rules}, func(p *store.PartStats) bool { return p.Class == "key noise" || p.Class == "db*" && p.Day == today-5 },
			[]string{d(500, 1) + "retain = web*: 400d", d(500, 2) + "retain: 400 days", d(90, 1) + "max_days = 30", d(4, 1) + "retain = db*: 50"}},
		{"for ever, but for what has a time", Limits{Rules: rules}, nil,
			[]string{d(500, 1) + "retain = web*: 400d", d(8, 1) + "retain = key noise: 7d", d(5, 1) + "retain = db*: 50"}},
		{"without rules, as the days are", Limits{MaxDays: 30}, nil,
			[]string{d(500, 1) + "max_days = 30", d(500, 2) + "max_days = 30", d(390, 2) + "max_days = 30", d(300, 1) + "max_days = 30", d(90, 1) + "max_days = 30", d(90, 2) + "max_days = 30"}},
		{"by the size of all, what is over first goes first", Limits{MaxDays: 30, MaxBytes: 65, Rules: rules}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := droppedOf(t, c.l, parts, today, c.held)
			if c.want == nil {
				// The archive of web* is what stays.
				if last := got[len(got)-1]; !strings.Contains(last, "max_bytes") || strings.Contains(strings.Join(got, "\n"), d(300, 1)) {
					t.Errorf("dropped\n%s", strings.Join(got, "\n"))
				}
				return
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("dropped\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// Days that were imported, or came late, say nothing of the clock, and are as old as their events.
func TestAgesOfOtherTimes(t *testing.T) {
	today := store.DayOf(time.Date(2026, 7, 30, 0, 0, 0, 0, time.UTC))
	parts := []store.PartStats{
		{Part: store.Part{Day: today - 1000, N: 1}, Received: today, LastID: 8, Sealed: true, Compacted: true},
		{Part: store.Part{Day: today - 40, N: 1}, Received: today, LastID: 8, Sealed: true, Compacted: true},
		{Part: store.Part{Day: today, N: 1}, Received: today, LastID: 9},
	}
	if a := agesOf(parts, today, nil); a.today != today {
		t.Errorf("today counts as %v", a.today)
	}
	want := parts[0].Part.String() + " max_days = 100"
	if got := droppedOf(t, Limits{MaxDays: 100}, parts, today, nil); len(got) != 1 || got[0] != want {
		t.Errorf("dropped %q, want %q", got, want)
	}
}
