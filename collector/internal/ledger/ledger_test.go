package ledger

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/record"
)

// noon is the time at which tests begin, in milliseconds.
const noon = int64(1763640000000)

// host is a Host with a clock and a forwarder.
type host struct {
	*Host
	t       *testing.T
	now     int64
	serial  uint32
	rows    []*Row
	run     string
	boot    string
	n       int
	from    int64
	handed  int
	dropped int
	lost    int
}

func newHost(t *testing.T) *host {
	return &host{Host: NewHost(), t: t, now: noon, serial: 1000, boot: "b1"}
}

func (h *host) line(format string, args ...any) {
	h.t.Helper()
	h.stray(format, args...)
	h.handed++
}

// stray has a record come that no forwarder counts.
func (h *host) stray(format string, args ...any) {
	h.t.Helper()
	var r record.Record
	if err := r.Parse(fmt.Appendf(nil, format, args...)); err != nil {
		h.t.Fatal(err)
	}
	h.Record(&r, 1, h.now)
}

func at(ms int64) string { return fmt.Sprintf("%d.%03d", ms/1000, ms%1000) }

// events makes n events, a second apart.
func (h *host) events(n int) {
	for range n {
		h.now += 1000
		h.serial++
		h.line("type=SYSCALL msg=audit(%s:%d): arch=c000003e", at(h.now), h.serial)
	}
}

func (h *host) begin(run string) {
	h.run, h.n, h.from, h.handed, h.dropped, h.lost = run, 0, h.now, 0, 0, 0
}

func (h *host) alive(more string) {
	h.n++
	records := h.handed
	h.line("type=DAEMON_RESUME msg=audit(%s:1): op=alive run=%s n=%d first=%s last=%s boot=%s source=kernel registered=yes enabled=1 found=1 records=%d dropped=%d lost=%d %s res=success",
		at(h.now), h.run, h.n, at(h.from), at(h.now), h.boot, records, h.dropped, h.lost, more)
	h.from = h.now
}

// answer is what is said at the end, also after the tracker was stored and read again.
func (h *host) answer(from, to int64) *Answer {
	h.t.Helper()
	for _, r := range h.Take(h.now) {
		back, err := ParseRow(r.Append(nil), r.Start, r.Length)
		if err != nil {
			h.t.Fatal(err)
		}
		if d := cmp.Diff(r, back); d != "" {
			h.t.Fatalf("a row read again (-was +is):\n%s", d)
		}
		h.rows = append(h.rows, back)
	}
	again, err := Restore(h.Encode())
	if err != nil {
		h.t.Fatal(err)
	}
	if d := cmp.Diff(string(h.Encode()), string(again.Encode())); d != "" {
		h.t.Fatalf("a tracker read again:\n%s", d)
	}
	h.Host = again
	return Judge("web1", h.rows, h.Followed(), Question{From: from, To: to, Now: h.now})
}

func (h *host) want(what string, state State, causes ...string) {
	h.t.Helper()
	a := h.answer(0, 0)
	var got []string
	for _, s := range a.Causes {
		got = append(got, fmt.Sprintf("%s %d", s.Cause, s.N))
	}
	slices.Sort(causes)
	slices.Sort(got)
	if a.State != state || !slices.Equal(got, causes) {
		h.t.Errorf("%s: %s %q, want %s %q; %+v", what, a.State, got, state, causes, a.Intervals)
	}
}

func minutes(h *host, n int) {
	for range n {
		h.events(60)
		h.alive("")
	}
}

func TestComplete(t *testing.T) {
	h := newHost(t)
	h.begin("r1")
	minutes(h, 150)
	h.want("two hours and a half", Complete)
	a := h.answer(0, 0)
	if a.Lost != 0 || a.Records != uint64(h.handed) || a.To-a.From < 150*minute || a.ByStatements < 149*minute {
		t.Errorf("%+v", a)
	}
	h.events(1)
	h.alive("unsent=500 oldest=" + at(h.now-60000))
	if a := h.answer(0, 0); a.State != Pending || a.Unsent != 500 {
		t.Errorf("held back: %+v", a)
	}
}

func TestLosses(t *testing.T) {
	for _, c := range []struct {
		what  string
		does  func(h *host)
		state State
		want  []string
	}{
		{"the kernel said it", func(h *host) {
			h.lost += 17
			h.line("type=DAEMON_ERR msg=audit(%s:5): op=lost-records cause=kernel records=17 first=%s last=%s res=failed", at(h.now), at(h.now-500), at(h.now))
		}, Lost, []string{"kernel 17"}},
		{"said and the saying lost", func(h *host) { h.lost += 9 }, Lost, []string{"other 9"}},
		{"a cause of later versions", func(h *host) {
			h.lost++
			h.line("type=DAEMON_ERR msg=audit(%s:5): op=lost-records cause=gremlins records=1 res=failed", at(h.now))
		}, Lost, []string{"other 1"}},
		{"on the way", func(h *host) { h.handed += 3 }, Lost, []string{"not-received 3"}},
		{"dropped by the spool", func(h *host) {
			h.handed, h.dropped, h.lost = h.handed+40, h.dropped+40, h.lost+40
			h.line("type=DAEMON_ERR msg=audit(%s:5): op=lost-records cause=spool-full records=40 res=failed", at(h.now))
		}, Lost, []string{"spool-full 40"}},
		{"a gap that the forwarder answers for", func(h *host) { h.serial += 5; minutes(h, 2) }, Complete, nil},
		{"auditing off", func(h *host) {
			h.now += 30_000
			h.alive("enabled=0")
		}, Unknown, []string{"auditing-off 0"}},
		{"another daemon", func(h *host) { h.now += 30_000; h.alive("registered=no") }, Unknown, []string{"not-registered 0"}},
		{"more came than was said: another sender's", func(h *host) {
			h.stray("type=USER_CMD msg=audit(%s:%d): pid=1", at(h.now), h.serial)
		}, Complete, nil},
		{"stopped and started in the same boot", func(h *host) {
			h.alive("ends=yes")
			h.now += 20 * minute
			h.begin("r2")
		}, Complete, nil},
		{"stopped and started, and the kernel's word of that went to nobody", func(h *host) {
			h.alive("ends=yes")
			h.now += 20 * minute
			h.serial++
			h.begin("r2")
		}, Complete, nil},
		{"stopped and started, and the kernel had nobody to keep events for", func(h *host) {
			h.alive("ends=yes")
			h.now += 20 * minute
			h.serial += 8
			h.begin("r2")
		}, Lost, []string{"serial-gap 8", "stopped 0"}},
		{"another daemon took over", func(h *host) {
			h.alive("")
			h.alive("registered=no ends=yes")
			h.now += 5 * minute
			h.serial += 300
			h.begin("r2")
		}, Lost, []string{"not-registered 0", "serial-gap 300"}},
		{"two gaps, of which one is answered for", func(h *host) {
			h.serial += 100
			h.events(1)
			h.alive("")
			h.now += 2000
			h.serial += 40
			h.begin("r2")
		}, Lost, []string{"died 0", "serial-gap 40"}},
		{"dropped by the spool, with serials, statements and words of loss", func(h *host) {
			h.serial, h.handed, h.dropped, h.lost, h.n = h.serial+400, h.handed+402, h.dropped+402, h.lost+402, h.n+2
			h.now += 2 * minute
			h.from = h.now
			h.line("type=DAEMON_ERR msg=audit(%s:5): op=lost-records cause=spool-full records=300 res=failed", at(h.now))
		}, Lost, []string{"spool-full 300", "other 102"}},
		{"dropped by the spool after a statement that was sent later", func(h *host) {
			h.handed += 50
			h.now += minute
			h.alive("unsent=50 oldest=" + at(h.now-1000))
			h.dropped, h.lost = h.dropped+50, h.lost+50
			h.line("type=DAEMON_ERR msg=audit(%s:5): op=lost-records cause=spool-full records=50 res=failed", at(h.now))
		}, Lost, []string{"spool-full 50"}},
		{"rebooted", func(h *host) {
			h.alive("ends=yes")
			h.now += 20 * minute
			h.boot, h.serial = "b2", 1
			h.begin("r2")
		}, Complete, []string{"off 0"}},
		{"power cut", func(h *host) {
			h.now += 20 * minute
			h.boot, h.serial = "b2", 1
			h.begin("r2")
		}, Unknown, []string{"died 0"}},
		{"killed, and no serial is missing", func(h *host) { h.now += 5 * minute; h.begin("r2") }, Complete, nil},
		{"killed, and serials are missing", func(h *host) { h.now += 5 * minute; h.serial += 4; h.begin("r2") }, Lost, []string{"died 0", "serial-gap 4"}},
		{"started, and lost before", func(h *host) {
			h.alive("ends=yes")
			h.begin("r2")
			h.lost = 4502
			h.line("type=DAEMON_ERR msg=audit(%s:5): op=lost-records cause=before-start records=4502 first=%s last=%s res=failed", at(h.now), at(h.now-500), at(h.now))
		}, Lost, []string{"before-start 4502"}},
		{"heard from the middle of a run on", func(h *host) { h.begin("r7"); h.n, h.lost, h.handed = 40, 77, 1000 }, Complete, nil},
		{"stopped and auditing switched off meanwhile", func(h *host) {
			h.alive("ends=yes")
			h.now += 5 * minute
			h.begin("r2")
			h.now += 1000
			h.alive("found=0")
		}, Unknown, []string{"auditing-off 0"}},
		{"a statement that never came", func(h *host) {
			h.events(60)
			h.n++
			h.handed++
			h.from = h.now
		}, Lost, []string{"not-received 1"}},
	} {
		h := newHost(t)
		h.t = t
		h.begin("r1")
		minutes(h, 5)
		c.does(h)
		minutes(h, 30)
		h.want(c.what, c.state, c.want...)
	}
}

// TestOtherCollector has a host fall over to another collector and come back, again and again: what
// that one acknowledged is not lost, and not here either; what this one acknowledged and does not
// have is lost.
func TestOtherCollector(t *testing.T) {
	h := newHost(t)
	h.begin("r1")
	mine, theirs, unsent := 0, 0, 0
	said := func(gone bool) {
		h.n++
		line := fmt.Sprintf("type=DAEMON_RESUME msg=audit(%s:1): op=alive run=%s n=%d first=%s last=%s boot=b1 source=kernel registered=yes enabled=1 found=1 records=%d dropped=0 lost=0 acked=%d,%d unsent=%d oldest=%s res=success",
			at(h.now), h.run, h.n, at(h.from), at(h.now), h.handed, mine-min(mine, unsent), theirs, unsent, at(h.now-1000))
		if gone {
			theirs++
			h.handed++
		} else {
			mine++
			h.line("%s", line)
		}
		h.from = h.now
	}
	for round := range 3 {
		for range 5 {
			h.events(60)
			mine += 60
			unsent = 7 // acknowledgements are on their way
			said(false)
		}
		h.want(fmt.Sprint("at home, round ", round), []State{Complete, Unknown, Unknown}[round], [][]string{{}, {"other-collector 183"}, {"other-collector 366"}}[round]...)
		for range 3 { // that nobody here hears of
			h.now, h.handed, theirs, unsent = h.now+minute, h.handed+60, theirs+60, 0
			said(true)
		}
	}
	h.events(60)
	mine += 60
	h.handed, mine = h.handed+5, mine+5 // acknowledged here, and not here
	unsent = 0
	said(false)
	h.want("lost here", Lost, "not-received 5", "other-collector 549")
}

// TestSilence has a host that says nothing more.
func TestSilence(t *testing.T) {
	h := newHost(t)
	h.begin("r1")
	minutes(h, 5)
	h.now += 100_000
	h.want("shortly after its last word", Complete)
	h.now += 10 * minute
	h.want("ten minutes later", Unknown, "silent 0")
	minutes(h, 1)
	h.want("it was cut off, and all came later", Complete)
}

// TestStock has a host of whose forwarder nothing is known.
func TestStock(t *testing.T) {
	h := newHost(t)
	h.events(3000)
	h.want("number follows number", Complete)
	if a := h.answer(0, 0); a.ByStatements != 0 || a.BySerials < 49*minute {
		t.Errorf("%+v", a)
	}
	h.serial += 7
	h.events(3)
	late := h.serial - 4
	h.line("type=SYSCALL msg=audit(%s:%d): arch=c000003e", at(h.now-2000), late)
	h.events(60)
	h.want("seven are passed over, one of them comes late", Lost, "serial-gap 6")
	h.line("type=CONFIG_CHANGE msg=audit(%s:%d): op=set audit_enabled=0 old=1 res=1", at(h.now), h.serial+1)
	h.now += 5 * minute
	h.want("auditing is off now", Lost, "serial-gap 6", "auditing-off 0")
	h.serial++
	h.events(60)
	h.want("auditing was off", Lost, "serial-gap 6", "auditing-off 0")
}

// TestGapThenQuiet has numbers passed over, and then no record of the kernel: of a killed
// forwarder's host that is quiet the answer said complete for as long as that lasted.
func TestGapThenQuiet(t *testing.T) {
	stock := newHost(t)
	stock.events(100)
	stock.serial += 7
	stock.events(1)
	stock.now += 2000
	stock.want("they may still come", Pending)
	stock.now += lateMs
	stock.want("asked once they can't", Lost, "serial-gap 7")

	ours := newHost(t)
	ours.begin("r1")
	minutes(ours, 3)
	ours.Take(ours.now)
	ours.now += 30_000
	ours.serial += 9
	ours.begin("r2")
	ours.events(1)
	ours.alive("")
	ours.now += 2000
	ours.from = ours.now - 100
	for range 30 {
		ours.now += 1000
		ours.alive("")
	}
	if rows := ours.Take(ours.now - lateMs); !slices.ContainsFunc(rows, func(r *Row) bool {
		return slices.ContainsFunc(r.Entries, func(e Entry) bool { return e.Cause == SerialGap && e.N == 9 })
	}) {
		t.Errorf("statements alone decide nothing: %+v", rows)
	}
}

// TestOldLogBeside imports an old log of a host that is live: neither hurts the other.
func TestOldLogBeside(t *testing.T) {
	h := newHost(t)
	h.events(100)
	for i := range 500 {
		h.stray("type=SYSCALL msg=audit(%s:%d): arch=c000003e", at(noon-30*Day+int64(i)*1000), 50+i)
		if i%10 == 0 {
			h.events(1)
		}
	}
	h.events(100)
	a := h.answer(noon+1000, 0)
	if a.State != Complete {
		t.Errorf("the live one: %+v", a)
	}
	if a := h.answer(noon-30*Day+minute, noon-30*Day+8*minute); a.State != Complete || a.Records == 0 {
		t.Errorf("the old one: %+v", a)
	}
	if a := h.answer(noon-20*Day, noon-19*Day); a.State != Unknown {
		t.Errorf("in between: %+v", a)
	}
}

// TestHostile has a host that says what it likes: memory and rows stay bounded.
func TestHostile(t *testing.T) {
	h := newHost(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 20000 {
		ms := noon + rnd.Int64N(2000*Day) - 1000*Day
		h.stray("type=DAEMON_ERR msg=audit(%s:5): op=lost-records cause=kernel records=18446744073709551615 first=%s last=%s", at(ms), at(rnd.Int64N(noon)), at(noon+rnd.Int64N(noon)))
		h.stray("type=DAEMON_RESUME msg=audit(%s:1): op=alive run=%d n=%d first=%s last=%s records=%d lost=%d", at(ms), i%3, rnd.Uint64N(9), at(ms-rnd.Int64N(1000*Day)), at(ms), rnd.Uint64(), rnd.Uint64())
		h.stray("type=SYSCALL msg=audit(%s:%d): a=1", at(ms), rnd.Uint32())
	}
	rows := h.Take(h.now)
	size := 0
	for _, r := range rows {
		size += len(r.Append(nil))
		if len(r.Entries) > MaxEntries {
			t.Fatalf("%d entries in a row", len(r.Entries))
		}
		readAgain(t, r)
	}
	if len(rows) > 402+3*24 || size > 1<<20 || len(h.Encode()) > 16<<10 {
		t.Errorf("%d rows, %d bytes, tracker %d bytes", len(rows), size, len(h.Encode()))
	}
	_ = Judge("web1", rows, h.Followed(), Question{Now: h.now})
}

// readAgain has a row written and read, alone and as a day whose records are dropped.
func readAgain(t *testing.T, r *Row) {
	t.Helper()
	back, err := ParseRow(r.Append(nil), r.Start, r.Length)
	if err != nil || cmp.Diff(r, back) != "" {
		t.Errorf("a row of %d entries read again: %v\n%s", len(r.Entries), err, cmp.Diff(r, back))
	}
	var p Past
	p.Add(r, r.Start+r.Length)
	if again, err := ParsePast(p.Append(nil)); err != nil || cmp.Diff(p, again) != "" {
		t.Errorf("as a day that was dropped: %v\n%s", err, cmp.Diff(p, again))
	}
}

// TestLongTimesThatMeet has times of a month, the longest that an entry is about, begin one after the other in a
// row: what is made of them together is longer than each, and is read again.
func TestLongTimesThatMeet(t *testing.T) {
	h := newHost(t)
	begin := h.now - 100*Day
	for i := range 3 { // they overlap
		from := begin + int64(i)*7*Hour
		h.stray("type=DAEMON_ERR msg=audit(%s:5): op=lost-records cause=kernel records=1 first=%s last=%s", at(h.now), at(from), at(from+farthest))
	}
	h.now += 7 * Day // in a row of an hour, of which an interval ends after each of eleven short ones
	for i := range int64(12) {
		h.enter(Died, h.now+i*5*minute/2, h.now+i*5*minute/2+i/11*farthest, 0, h.now+farthest)
	}
	rows := h.Take(h.now)
	for _, r := range rows {
		readAgain(t, r)
	}
	if a := Judge("web1", rows, h.Followed(), Question{From: begin, To: begin + farthest + 14*Hour, Now: h.now}); a.Lost != 3 {
		t.Errorf("%+v", a)
	}
}

func FuzzRow(f *testing.F) {
	h := Row{Start: noon - noon%Hour, Length: Hour, Counts: []Count{{3, 4, 1}}, Entries: []Entry{{Kernel, noon, noon + 5, 7}}}
	h.Stated.Add(h.Start+minute, h.Start+3*minute)
	f.Add(h.Append(nil))
	f.Add([]byte("\x01\x01000\x0100\x00\x010000")) // with a cause of a later version
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRow(b, h.Start, Hour)
		if err != nil {
			return
		}
		back, err := ParseRow(r.Append(nil), h.Start, Hour)
		if err != nil || cmp.Diff(r, back) != "" {
			t.Errorf("%v: %s", err, cmp.Diff(r, back))
		}
		var sum Row
		sum.Start, sum.Length = start(h.Start, Day), Day
		sum.Add(r)
		_ = Judge("x", []*Row{r, &sum}, Followed{}, Question{Now: noon + Day})
	})
}

// TestExample is the example of FORMAT.md.
func TestExample(t *testing.T) {
	r := &Row{Start: 0, Length: Hour, Counts: []Count{{3, 4, 1}}, Entries: []Entry{{Kernel, 0, 5, 7}}}
	r.Stated.Add(minute, 3*minute)
	if got := fmt.Sprintf("% x", r.Append(nil)); got != "02 01 03 01 04 01 01 e0 d4 03 c0 a9 07 00 01 02 00 05 07" {
		t.Error(got)
	}
	old, err := ParseRow([]byte("\x01\x01\x03\x04\x01\x01\xe0\xd4\x03\xc0\xa9\x07\x00\x01\x02\x00\x05\x07"), 0, Hour) // of version 1
	if d := cmp.Diff(r, old); err != nil || d != "" {
		t.Errorf("%v: %s", err, d)
	}
}

func TestSpans(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var s Spans
		model := [64]bool{}
		for range rnd.IntN(12) {
			from, to := rnd.Int64N(60), rnd.Int64N(64)
			s.Add(from, to)
			for i := from; i < to; i++ {
				model[i] = true
			}
		}
		from, to := rnd.Int64N(64), rnd.Int64N(64)
		within, without := s.Within(from, to), s.Without(from, to)
		for i := range int64(64) {
			in := i >= from && i < to
			if has(within, i) != (in && model[i]) || has(without, i) != (in && !model[i]) || has(s, i) != model[i] {
				t.Fatalf("%v: within %d to %d %v, without %v, at %d", s, from, to, within, without, i)
			}
		}
		for i := 1; i < len(s); i++ {
			if s[i].From <= s[i-1].To {
				t.Fatalf("%v touch", s)
			}
		}
	}
}

func has(s Spans, at int64) bool {
	return slices.ContainsFunc(s, func(x Span) bool { return x.From <= at && at < x.To })
}

// TestPastExample is the other example of FORMAT.md.
func TestPastExample(t *testing.T) {
	var p Past
	p.Add(&Row{Start: Day, Length: Day, Counts: []Count{{7, 7, 1}}}, 5)
	if got := fmt.Sprintf("% x", p.Append(nil)); got != "01 01 02 05 0f 02 00 00 00 01 14 80 8b 82 0c 80 dd db 01 07" {
		t.Error(got)
	}
}

// tracker1 is a tracker of version 1, as it was stored.
const tracker1 = `{"run":{"id":"5d41402abc4b2a76","boot":"4be22a64-5a2b-4b30-a1c1-2a4d1b1fd2f7","rules":"none","n":17,"last":1763640060000,"records":900,"lost":4,"unsent":3,"oldest":1763640059000,` +
	`"kernel":true,"registered":true,"enabled":true,"sender":18446744073709551615,"received":31,"owed":-2,"said":4,"since":1},"last":1763640061000,"off":7,` +
	`"chains":[{"last":74231,"ms":1763640061000,"since":1763640000000,"gaps":[[74000,74003,1763640050000,1763640050100,1763640051000]]},{"last":9,"ms":5,"since":6}]}`

// tracker2 is the same of version 2, in hexadecimal digits.
const tracker2 = "021b90b19d92d4660e000001085d41402abc4b2a7602104be22a645a2b4b30a1c12a4d1b1fd2f700046e6f6e65ffffffffffffffffc0a19d92d466f0919d92d4660300001184070004" +
	"03001f04010000f7c30490b19d92d46690b9070190c20403a0859c92d466e8869c92d466f0949c92d466090a0100"

// TestTracker2 reads a tracker of version 2, as it was stored.
func TestTracker2(t *testing.T) {
	b, err := hex.DecodeString(tracker2)
	if err != nil {
		t.Fatal(err)
	}
	is, err := Restore(b)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Restore([]byte(tracker1))
	if err != nil {
		t.Fatal(err)
	}
	want.run.Upto = want.run.Last
	if d := cmp.Diff(want, is, cmp.AllowUnexported(Host{}, run{}, statement{}, chain{}, gap{}, vital{})); d != "" {
		t.Error(d)
	}
}

// TestTracker reads a tracker of version 1, writes it and reads that, and the other way round.
func TestTracker(t *testing.T) {
	old, err := Restore([]byte(tracker1))
	if err != nil {
		t.Fatal(err)
	}
	b := old.Encode()
	back, err := Restore(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(old, back, cmp.AllowUnexported(Host{}, run{}, statement{}, chain{}, gap{}, vital{})); d != "" || len(b) > 190 {
		t.Errorf("%d bytes: %s", len(b), d)
	}
	if r := &back.run; r.Run != "5d41402abc4b2a76" || r.Rules != "none" || !r.Enabled || r.Multicast || r.Owed != -2 || back.off != 7 || len(back.chains[0].gaps) != 1 {
		t.Errorf("%+v", back)
	}
	h := NewHost()
	h.run.Run, h.run.Boot, h.run.Rules, h.run.Acked = "A5", strings.Repeat("x", maxWord), "", []uint64{5, 0, 7}
	h.up, h.daemon, h.parted = noon, daemonEnded|daemonStarted, noon-5
	h.run.Last, h.run.Upto = noon, noon-7
	h.chains[0], h.begun[0], h.since[0] = chain{last: 7, lastMs: noon, begin: noon - Hour}, true, noon-9
	h.chains[1], h.begun[1], h.since[1] = chain{last: 9, lastMs: noon - Day, begin: noon - 2*Day, retired: true}, true, noon-Day
	h.vital = vital{Live: true, Shut: noon, Missing: []Total{{Kernel, 7}, {SerialGap, 1 << 40}}, Alarms: []uint64{0, 3, 0, 0, 1}, Clock: []int64{-5, 400_000, 3}}
	back, err = Restore(h.Encode())
	if d := cmp.Diff(h, back, cmp.AllowUnexported(Host{}, run{}, statement{}, chain{}, gap{}, vital{})); err != nil || d != "" {
		t.Errorf("%v: %s", err, d)
	}
}

func FuzzTracker(f *testing.F) {
	h, err := Restore([]byte(tracker1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(h.Encode())
	f.Add([]byte(tracker1))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := Restore(b)
		if err != nil {
			return
		}
		again, err := Restore(h.Encode())
		if err != nil || string(again.Encode()) != string(h.Encode()) {
			t.Errorf("%v", err)
		}
		_ = Judge("x", h.Take(noon), h.Followed(), Question{Now: noon})
	})
}

func FuzzPast(f *testing.F) {
	var p Past
	for d := range int64(3) {
		r := Row{Start: noon - noon%Day + d*Day, Length: Day, Counts: []Count{{3, 4, 1}}, Entries: []Entry{{Kernel, noon, noon + 5, 7}}}
		r.Stated.Add(r.Start, r.Start+Day)
		p.Add(&r, noon+d)
	}
	f.Add(p.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePast(b)
		if err != nil {
			return
		}
		back, err := ParsePast(p.Append(nil))
		if err != nil || cmp.Diff(p, back) != "" {
			t.Errorf("%v: %s", err, cmp.Diff(p, back))
		}
		var sum Past
		for _, r := range p {
			sum.Merge(r)
		}
		sum.Expire(noon)
		_ = Judge("x", sum, Followed{}, Question{Now: noon + Day})
		_ = Judge("x", sum, Followed{}, Question{From: 1, Now: noon + Day})
	})
}

// TestOwnRecordsAreNoneOfTheKernel: what the collector records of itself under the name of a host, its
// own machine's, leaves that one's serials and whether its auditing is on as they are.
func TestOwnRecordsAreNoneOfTheKernel(t *testing.T) {
	answers := map[bool]*Answer{}
	for _, with := range []bool{false, true} {
		h := newHost(t)
		for i := range 300 {
			h.events(1)
			if !with {
				continue
			}
			for _, text := range []string{"USER_CMD", "CRYPTO_SESSION", "DAEMON_ACCEPT"} {
				var r record.Record
				if err := r.Parse(fmt.Appendf(nil, "type=%s msg=audit(%s:%d): pid=1", text, at(h.now), 700000+i)); err != nil {
					t.Fatal(err)
				}
				h.Own(&r, 2, h.now)
			}
		}
		h.now += 60_000
		answers[with] = h.answer(noon, h.now)
	}
	a, b := answers[false], answers[true]
	if a.State != b.State || a.Lost != b.Lost || a.BySerials != b.BySerials || b.Records != a.Records+900 {
		t.Errorf("%+v\nwith records of the collector's own:\n%+v", a, b)
	}
}

// A host that says that it shuts down is off until it starts again; one that goes on is not.
func TestShut(t *testing.T) {
	h := newHost(t)
	h.begin("a")
	minutes(h, 2)
	h.line("type=SYSTEM_SHUTDOWN msg=audit(%s:900): pid=1 res=success", at(h.now))
	if h.Vitals().Shut == 0 {
		t.Error("it did not say so")
	}
	minutes(h, 5)
	if h.Vitals().Shut == 0 {
		t.Error("a shutdown takes some minutes")
	}
	minutes(h, 10)
	if h.Vitals().Shut != 0 {
		t.Error("it says that it shuts down, and goes on")
	}
	h.line("type=SYSTEM_SHUTDOWN msg=audit(%s:900): pid=1 res=success", at(h.now))
	h.line("type=DAEMON_START msg=audit(%s:1): op=start res=success", at(h.now))
	if h.Vitals().Shut != 0 {
		t.Error("it has started")
	}
}

// TestImportedAndDropped: of days of which the host was not heard, classes that were imported and dropped move nothing.
func TestImportedAndDropped(t *testing.T) {
	row := &Row{Start: DayOf(noon) - Day, Length: Day, Counts: []Count{{Slot: 3, Records: 4, Events: 2}}}
	row.Stated.Add(row.Start, row.Start+Day)
	ask := Question{Now: row.Start + Day}
	want := Judge("web1", []*Row{row}, Followed{}, ask)
	if want.State != Complete {
		t.Fatalf("%+v", want)
	}
	for _, cause := range []Cause{Retention, ClassRetention} {
		var gone Past
		gone.Drop(cause, row.Start-300*Day, row.Start-300*Day+Hour, 5, 5, ask.Now)
		got := Judge("web1", append([]*Row{row}, gone...), Followed{}, ask)
		if got.From != want.From || got.State != want.State || got.Records != want.Records {
			t.Errorf("%s: %+v, want %+v", cause, got, want)
		}
	}
}
