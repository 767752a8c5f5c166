package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// coverageHosts are answers of every state, about 40 days.
func coverageHosts() []*fleet.Coverage {
	begin := time.Date(2026, 10, 1, 6, 0, 0, 0, time.UTC)
	at := func(day, hour int) int64 {
		return begin.AddDate(0, 0, day).Add(time.Duration(hour) * time.Hour).UnixMilli()
	}
	end := at(40, 0)
	one := func(host, state string) *fleet.Coverage {
		return &fleet.Coverage{Host: []byte(host), State: state, FromMs: at(0, 0), ToMs: end, ByStatementsMs: end - at(0, 0), RetainedUntilMs: at(90, 0), Records: 5000, EventsStored: 1000}
	}
	with := func(c *fleet.Coverage, cause, hop, state string, n uint64, from, to int64) *fleet.Coverage {
		c.Causes = append(c.Causes, &fleet.CoverageCause{Cause: cause, Hop: hop, State: state, Records: n, FromMs: from, ToMs: to, LengthMs: to - from})
		c.Intervals = append(c.Intervals, &fleet.CoverageInterval{Cause: cause, Hop: hop, State: state, Records: n, FromMs: from, ToMs: to})
		return c
	}
	held := one("held", "pending")
	held.Unsent, held.OldestMs = 17, at(39, 20)
	gone := with(one("gone", "unknown"), "silent", "host", "unknown", 0, at(30, 0), end)
	gone.DownMs = at(30, 1)
	dropped := with(one("old", "lost"), "retention", "collector", "lost", 51234, at(0, 0), at(3, 0))
	dropped.Lost = 51234
	dropped.Causes[0].DroppedMs, dropped.Causes[0].Was = at(20, 0), "complete"
	dropped.Intervals[0].DroppedMs, dropped.Intervals[0].Was = at(20, 0), "complete"
	lost := with(with(one("web1", "lost"), "serial-gap", "host", "lost", 20, at(2, 1), at(2, 2)), "died", "host", "unknown", 0, at(2, 1), at(5, 2))
	lost.Lost = 20
	lost.Notes = []*fleet.CoverageCause{{Cause: "resent", Hop: "transport", State: "complete", Records: 3, FromMs: at(5, 2), ToMs: at(5, 2)}}
	stock := one("stock", "complete")
	stock.ByStatementsMs, stock.BySerialsMs = 0, end-at(0, 0)
	never := &fleet.Coverage{Host: []byte("evil\x1b[2J" + strings.Repeat("x", 100)), State: "unknown"}
	return []*fleet.Coverage{with(one("db1", "complete"), "off", "host", "complete", 0, at(9, 20), at(13, 1)), never, gone, held, dropped, stock, lost}
}

// TestCoverageText has every line fit its terminal, name the worst cause first, and a bar of the
// host's days, in characters that the locale has; without a terminal, no bar and no bound.
func TestCoverageText(t *testing.T) {
	now := time.Date(2026, 11, 10, 6, 0, 0, 0, time.UTC)
	v := &coverageView{zone: time.UTC, now: now}
	got := string(v.text(coverageHosts()))
	if strings.ContainsAny(got, "\x1b█#") || !strings.Contains(got, "web1") {
		t.Errorf("not on a terminal:\n%s", got)
	}
	for _, line := range []string{
		"silent at host, 2026-10-31 06:00:00 to 2026-11-10 06:00:00; not connected since 2026-10-31 07:00:00; kept until 2026-12-30",
		"pending 17  held by the host since 2026-11-10 02:00:00; kept until",
		"lost 51234  retention at collector: 51234 records, dropped on 2026-10-21, complete until then, 2026-10-01 06:00:00 to 2026-10-04 06:00:00; kept",
		"by the kernel's serials (weaker); kept",
		"lost 20     serial-gap at host: 20 events, 2026-10-03 07:00:00 to 08:00:00; died at host, 2026-10-03 07:00:00 to 2026-10-06 08:00:00; kept",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("%q is not in\n%s", line, got)
		}
	}
	for _, width := range []int{100, 140, 300} {
		for _, utf8 := range []bool{false, true} {
			v := &coverageView{zone: time.UTC, now: now, width: width, utf8: utf8}
			got := string(v.text(coverageHosts()))
			for _, line := range strings.Split(got, "\n") {
				if n := terminal.Width(line); n > width {
					t.Errorf("%d columns of %d: %q", n, width, line)
				}
			}
			if utf8 != strings.Contains(got, "█") || utf8 == strings.Contains(got, "#") {
				t.Errorf("width %d, UTF-8 %t:\n%s", width, utf8, got)
			}
		}
	}
	v = &coverageView{zone: time.UTC, now: now, width: 140}
	got = string(v.text(coverageHosts()))
	for _, bar := range []string{
		"###########..############################", // db1: whole days
		"##############################???????????",
		"########################################+",
		"XXXX#####################################",
		"##X???###################################",
		"a character is a day, from 2026-10-01 on: # complete, . off, + pending, ? unknown, X lost",
	} {
		if !strings.Contains(got, bar) {
			t.Errorf("no bar %q in\n%s", bar, got)
		}
	}
	v.color = true
	if got := string(v.text(coverageHosts())); !strings.Contains(got, "\x1b[32m##\x1b[31mX\x1b[33m???\x1b[32m##") || strings.Contains(got, "\x1b[2J") {
		t.Errorf("%q", got)
	}
	v = &coverageView{zone: time.UTC, now: now, detail: true}
	got = string(v.text(coverageHosts()[6:]))
	if d := cmp.Diff(`web1  lost 20  serial-gap at host: 20 events, 2026-10-03 07:00:00 to 08:00:00; died at host, 2026-10-03 07:00:00 to 2026-10-06 08:00:00; kept until 2026-12-30
    2026-10-03 07:00:00 to 08:00:00  serial-gap at host: 20 events
    2026-10-03 07:00:00 to 2026-10-06 08:00:00  died at host
    2026-10-06 08:00:00  resent at transport: 3 records (nothing is lost by it)
    asked about 2026-10-01 06:00:00 to 2026-11-10 06:00:00: 5000 records of 1000 events stored, kept until 2026-12-30
`, got); d != "" {
		t.Error(d)
	}
}

func TestSpeaksUTF8(t *testing.T) {
	for _, c := range []struct {
		all, ctype, lang string
		want             bool
	}{
		{"", "", "", false}, {"", "", "C", false}, {"", "", "C.UTF-8", true}, {"C", "", "de_DE.UTF-8", false}, {"", "en_US.utf8", "C", true}, {"", "", "ca_ES.UTF-8@valencia", true}, {"", "", "de_DE@euro", false},
	} {
		env := map[string]string{"LC_ALL": c.all, "LC_CTYPE": c.ctype, "LANG": c.lang}
		if got := speaksUTF8(func(n string) string { return env[n] }); got != c.want {
			t.Errorf("%v: %t", c, got)
		}
	}
}
