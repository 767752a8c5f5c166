package ledger

import (
	"fmt"
	"testing"
)

// TestSerialsWrap has the kernel's serials begin anew, number 0 included: nothing is missing.
func TestSerialsWrap(t *testing.T) {
	h := newHost(t)
	h.serial = ^uint32(0) - 50
	h.events(100)
	h.want("number follows number", Complete)
	h = newHost(t)
	h.serial = ^uint32(0) - 50
	h.events(40)
	h.serial += 20 // over the end
	h.events(60)
	h.want("twenty are missing over the end", Lost, "serial-gap 20")
}

// TestClockJumps has a host's clock jump ahead and back, for a moment and for good: what it did not
// say anything about is not complete.
func TestClockJumps(t *testing.T) {
	for _, far := range []int64{20 * Hour, 400 * Day} {
		h := newHost(t)
		h.events(100)
		h.serial++
		h.line("type=SYSCALL msg=audit(%s:%d): arch=c000003e", at(h.now+far), h.serial)
		h.events(10)
		h.now += 10 * Hour
		if a := h.answer(0, h.now); a.State != Unknown {
			t.Errorf("%d ms ahead, an event, then silence: %+v", far, a)
		}
		h = newHost(t)
		h.begin("r1")
		minutes(h, 5)
		said := h.now
		h.now += far
		h.n++
		line := fmt.Sprintf("type=DAEMON_RESUME msg=audit(%s:1): op=alive run=r1 n=%d first=%s last=%s boot=b1 source=kernel registered=yes enabled=1 found=1 records=%d dropped=0 lost=0 unsent=0 res=success", at(h.now), h.n, at(said), at(h.now), h.handed)
		h.now = said
		h.line("%s", line)
		h.now += 10 * Hour
		if a := h.answer(0, h.now); a.State != Unknown {
			t.Errorf("%d ms ahead, a statement, then silence: %+v", far, a)
		}
	}
	h := newHost(t) // a year behind, and of 1970
	h.now -= 365 * Day
	h.events(10)
	back := h.now
	h.now += 365 * Day
	h.stray("type=SYSCALL msg=audit(5.000:7): arch=c000003e")
	h.events(60)
	if a := h.answer(back-minute, back); a.Records == 0 {
		t.Errorf("a year behind: %+v", a)
	}
	if a := h.answer(1, 10_000); a.Records != 0 || a.State != Unknown {
		t.Errorf("of 1970: %+v", a)
	}
	if a := h.answer(h.now-50_000, h.now); a.State != Complete {
		t.Errorf("now: %+v", a)
	}
}

// TestStoppedAfterAClockIsSetBack has a host boot with a clock that is ahead, which is put right, and then its forwarder be
// stopped for a while: number follows number, so nothing is missing, and where one does not, it is.
func TestStoppedAfterAClockIsSetBack(t *testing.T) {
	for missing, want := range []State{Complete, Complete, Lost} { // one is what the kernel makes of a daemon that leaves
		h := newHost(t)
		h.begin("r1")
		h.serial++
		h.line("type=SYSCALL msg=audit(%s:%d): arch=c000003e", at(h.now+8*minute), h.serial)
		minutes(h, 3)
		h.alive("ends=yes")
		h.line("type=DAEMON_END msg=audit(%s:1): op=terminate", at(h.now))
		h.now += 3000
		h.serial += uint32(missing)
		h.begin("r2")
		h.line("type=DAEMON_START msg=audit(%s:1): op=start", at(h.now))
		h.serial++ // the kernel had kept it
		h.line("type=CONFIG_CHANGE msg=audit(%s:%d): op=set audit_pid=0", at(h.now-3000), h.serial)
		h.alive("")
		minutes(h, 30)
		if a := h.answer(0, 0); a.State != want {
			t.Errorf("%d missing: %s %v, want %s; %+v", missing, a.State, a.Causes, want, a.Intervals)
		}
	}
}

// TestLossBeforeAClockIsSetBack has a forwarder be killed, which costs events, and the clock be set back later: what the host
// says of the same hours again is not of that time.
func TestLossBeforeAClockIsSetBack(t *testing.T) {
	for _, end := range []string{"", "ends=yes"} {
		h := newHost(t)
		h.begin("r1")
		minutes(h, 30)
		h.alive(end)
		h.now += 2000
		h.serial += 9
		h.begin("r2")
		h.line("type=DAEMON_START msg=audit(%s:1): op=start", at(h.now))
		h.alive("")
		minutes(h, 30)
		cause := map[string]string{"": "died 0", "ends=yes": "stopped 0"}[end]
		h.want("killed", Lost, "serial-gap 9", cause)
		h.now -= Hour
		h.from = h.now
		minutes(h, 50)
		h.want("and an hour back", Lost, "serial-gap 9", cause)
	}
}

// TestStatementsThatLie has a host claim what it likes: numbers stay what they are, and time that it
// can't have watched is not complete.
func TestStatementsThatLie(t *testing.T) {
	say := func(h *host, run string, n uint64, first, last int64, records, lost string) {
		h.stray("type=DAEMON_RESUME msg=audit(%s:1): op=alive run=%s n=%d first=%s last=%s boot=b1 source=kernel registered=yes enabled=1 found=1 records=%s dropped=0 lost=%s acked=18446744073709551615,%s,1 unsent=18446744073709551615 oldest=1.000 res=success",
			at(h.now), run, n, at(first), at(last), records, lost, records)
	}
	h := newHost(t)
	say(h, "a", 1, noon-399*Day, noon, "0", "0")
	if a := h.answer(noon-100*Day, noon-50*Day); a.State != Unknown {
		t.Errorf("a statement about a year: %+v", a)
	}
	h = newHost(t)
	h.begin("r1")
	minutes(h, 5)
	for range 3 { // two in a millisecond, and again
		h.alive("")
	}
	minutes(h, 5)
	h.want("three statements in a millisecond", Complete)
	for i, records := range []string{"9223372036854775807", "18446744073709551615", "-5", "x", "1"} {
		say(h, "b", uint64(i)+1<<40, h.now, h.now, records, records)
	}
	minutes(h, 5)
	if a := h.answer(0, 0); a.Lost > 1<<41 {
		t.Errorf("records: %+v", a)
	}
	for i := range 5000 { // runs and boots
		say(h, fmt.Sprint("run", i), 1, h.now, h.now+int64(i%7), "0", "0")
		h.stray("type=DAEMON_ERR msg=audit(%s:5): op=lost-records cause=c%d records=1 first=%s last=%s", at(h.now), i, at(h.now-int64(i)*1000), at(h.now))
	}
	rows := h.Take(h.now)
	size := 0
	for _, r := range rows {
		size += len(r.Append(nil))
	}
	if len(rows) > 20 || size > 20_000 || len(h.Encode()) > 400 {
		t.Errorf("%d rows, %d bytes, tracker of %d", len(rows), size, len(h.Encode()))
	}
}

// TestNotesTakeNoRoom has a host's connection begin and end in a loop: losses of the same hour stay
// told apart.
func TestNotesTakeNoRoom(t *testing.T) {
	h := newHost(t)
	for i := range 40 {
		at := h.now + int64(i)*minute
		h.Host.Disconnected(at)
		h.Host.Connected(at + 100)
		h.Happened(Resent, at, at, 3)
		h.Happened(Refused, at+500, at+500, 1)
		if i%2 == 0 {
			h.enter(Kernel, at, at+5, 2, at)
		}
	}
	kernel, notes, resent := 0, 0, uint64(0)
	for _, r := range h.Take(h.now + Hour) {
		for _, e := range r.Entries {
			switch {
			case e.Cause == Kernel:
				kernel++
			case e.Cause.Note():
				notes++
			}
			if e.Cause == Resent {
				resent += e.N
			}
		}
	}
	if kernel != 20 || notes > 2*3*maxNotes || resent != 120 {
		t.Errorf("%d losses told apart, %d notes, %d resent", kernel, notes, resent)
	}
}

// TestDamage has the store lose what it had of a time: hosts that had records then, or of which nothing
// is known, lack some; a number is said where it is theirs alone.
func TestDamage(t *testing.T) {
	h := newHost(t)
	h.begin("r1")
	minutes(h, 30)
	for _, c := range []struct {
		what   string
		d      Damage
		state  State
		lost   uint64
		causes int
	}{
		{"of all hosts", Damage{From: noon + minute, To: noon + 2*minute, N: 500}, Lost, 0, 1},
		{"of one host", Damage{From: noon + minute, To: noon + 2*minute, N: 500, One: true}, Lost, 500, 1},
		{"of this host", Damage{From: noon + minute, To: noon + 2*minute, N: 500, One: true, Host: "web1"}, Lost, 500, 1},
		{"of another host", Damage{From: noon + minute, To: noon + 2*minute, N: 500, One: true, Host: "web2"}, Complete, 0, 0},
		{"of a time before", Damage{From: noon - 2*Day, To: noon - Day, N: 500}, Complete, 0, 0},
	} {
		h.answer(0, 0) // has the rows stored
		a := Judge("web1", h.rows, h.Followed(), Question{Now: h.now, Damaged: []Damage{c.d}})
		if a.State != c.state || a.Lost != c.lost || len(a.Causes) != c.causes {
			t.Errorf("%s: %+v", c.what, a)
		}
	}
	a := Judge("web1", h.rows, h.Followed(), Question{From: noon - Day, To: noon - Day + Hour, Now: h.now, Damaged: []Damage{{From: noon - 2*Day, To: noon}}})
	if a.State != Lost || len(a.Causes) != 1 || a.Causes[0].Cause != Damaged {
		t.Errorf("of a time of which nothing is known: %+v", a)
	}
}

// TestOldLogsByTurns has a sender make a time of its own of any two records, in one hour: what is kept of that hour
// is bounded, the longest times of it stay, and nothing becomes complete that nobody has answered for.
func TestOldLogsByTurns(t *testing.T) {
	h := newHost(t)
	h.begin("r1")
	minutes(h, 30)
	then, serial := h.now-10*Hour, uint32(1<<31)
	for i := range 20_000 {
		if i%100 == 0 {
			h.now++ // batches
			h.rows = append(h.rows, h.TakeOver(h.now)...)
		}
		h.stray("type=SYSCALL msg=audit(%s:%d): arch=c000003e", at(then), serial)
		h.stray("type=SYSCALL msg=audit(%s:%d): arch=c000003e", at(then+1), serial+1)
		then, serial = then+3, serial-40_000
	}
	all := map[rowKey]*Row{}
	for _, r := range append(h.rows, h.Pending(h.now)...) {
		k := rowKey{r.Start, r.Length}
		if all[k] == nil {
			all[k] = &Row{Start: r.Start, Length: r.Length}
		}
		all[k].Add(r)
		for _, l := range []Spans{r.Stated, r.Chained, all[k].Stated, all[k].Chained} {
			if len(l) > 2*maxSpans {
				t.Fatalf("a row of %d times", len(l))
			}
		}
	}
	if a := h.answer(h.now-29*minute, h.now-minute); a.State != Complete {
		t.Errorf("what the forwarder answers for: %+v", a)
	}
}

// TestSpansAreBounded has too many times come in any order: the longest stay as they were.
func TestSpansAreBounded(t *testing.T) {
	var s Spans
	for i := range int64(10_000) {
		at := i * 7919 % 10_000 * 100
		s.Add(at, at+1+i%2)
		s.Add(-5_000_000+i/100*20_000, -5_000_000+i/100*20_000+10_000) // 100 long ones, again and again
		s.bound(maxSpans)
		if len(s) > 2*maxSpans {
			t.Fatal(len(s))
		}
	}
	if long := s.Within(-6_000_000, -1); len(long) != 100 || long[7].To-long[7].From != 10_000 {
		t.Errorf("%d of the 100 long ones are left", len(long))
	}
	if s.Has(0, 200) {
		t.Error("what lies apart was joined")
	}
}
