package event

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// made is an event as a host sends it: its records come within a second of the host's time,
// between those of others, however old its own stamp is.
type made struct {
	at, ms int64
	lines  []string
	sent   int
	first  bool // goes before all that begin later
}

// TestSlowEvents: no event of a host is cut whose records come within a timeout of the
// host's time, whatever their stamps are: system calls that took long, many of them at once,
// before and after its clock was set back. Of several at once on a host that was silent before,
// nobody can say when they came, so a record tells the time there.
func TestSlowEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now, serial := int64(1_000_000_000), 0
		var waiting []*made
		var want []string
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			pause := rapid.SampledFrom([]int64{0, 0, 1, 50, 700, 5000, 100_000}).Draw(t, "pause")
			now += pause
			if rapid.IntRange(0, 40).Draw(t, "leap") == 0 {
				now -= 3_600_000
			}
			if pause >= 700 || serial == 0 {
				line := fmt.Sprintf("type=USER msg=audit(%d.%03d:%d): i=0", now/1000, now%1000, 100+serial)
				waiting, want = append(waiting, &made{at: now, lines: []string{line}, first: true}), append(want, fmt.Sprint([]string{line}))
			}
			serial++
			ev := &made{at: now, ms: now - rapid.SampledFrom([]int64{0, 0, 0, 1, 1900, 2000, 10_000, 1_000_000}).Draw(t, "took")}
			for i, typ := range []string{"SYSCALL", "CWD", "PATH", "PATH", "PROCTITLE"}[:rapid.IntRange(1, 5).Draw(t, "records")] {
				ev.lines = append(ev.lines, fmt.Sprintf("type=%s msg=audit(%d.%03d:%d): i=%d", typ, ev.ms/1000, ev.ms%1000, serial, i))
			}
			waiting = append(waiting, ev)
			want = append(want, fmt.Sprint(ev.lines))
		}
		var got []string
		a := NewAssembler(Config{}, func(ev *Event) {
			var lines []string
			for i := range ev.Records {
				lines = append(lines, string(ev.Records[i].Raw))
			}
			got = append(got, fmt.Sprint(lines))
		})
		// Events that begin within a second of the first that waits are sent by turns.
		for len(waiting) > 0 {
			n := 1
			for n < len(waiting) && !waiting[n].first && waiting[n].at >= waiting[0].at && waiting[n].at < waiting[0].at+1000 {
				n++
			}
			i := 0
			if !waiting[0].first {
				i = rapid.IntRange(0, min(n, 4)-1).Draw(t, "next")
			}
			ev := waiting[i]
			var r record.Record
			if err := r.Parse([]byte(ev.lines[ev.sent])); err != nil {
				t.Fatal(err)
			}
			a.Add(&r, 0, time.Time{})
			if ev.sent++; ev.sent == len(ev.lines) {
				waiting = slices.Delete(waiting, i, i+1)
			}
		}
		a.Flush()
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			t.Fatalf("%d events came of %d:\n%q\nwant\n%q", len(got), len(want), got, want)
		}
	})
}

// TestClockSetBack: after a clock was set back an hour, events end by the new time, once
// there were enough of them to tell them from slow ones.
func TestClockSetBack(t *testing.T) {
	n := 0
	a := NewAssembler(Config{Apart: true}, func(*Event) { n++ })
	add := func(ms int64, serial int) {
		var r record.Record
		if err := r.Parse(fmt.Appendf(nil, "type=%s msg=audit(%d.%03d:%d): a=1", tables.TypeName(tables.Syscall), ms/1000, ms%1000, serial)); err != nil {
			t.Fatal(err)
		}
		a.Add(&r, 0, time.Time{})
	}
	for i := range 1000 {
		add(9_000_000+int64(i)*100, i)
	}
	if a.Len() > 21 {
		t.Errorf("%d events are open before", a.Len())
	}
	for i := range 1000 {
		add(5_000_000+int64(i)*100, 1000+i)
	}
	if open := a.Len(); open > setBack+42 || open < setBack {
		t.Errorf("%d events are open after the clock was set back", open)
	}
	if a.Flush(); n != 2000 {
		t.Errorf("%d events, want 2000", n)
	}
}
