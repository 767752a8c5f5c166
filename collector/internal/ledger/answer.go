package ledger

import (
	"cmp"
	"slices"
)

// Answer says of one host whether its trail is complete in a time.
type Answer struct {
	Host  string
	State State
	// From and To are the time that the answer is about: the asked one, and where that is open
	// from the host's first word to its last.
	From, To int64
	// Lost is how many records are missing; 0 with State Lost when nobody knows how many.
	Lost uint64
	// Events is how many of Lost are events, whose records nobody can count.
	Events uint64
	Causes []Sum // by Cause
	// Notes are what happened and lost nothing by itself: resends, refusals, connections that
	// ended. They are no part of Intervals.
	Notes []Sum
	// Intervals are the times that are not complete, and those when the host was off, by From.
	Intervals []Interval
	// ByStatements is how much of the time, in milliseconds, the host's forwarder answers for;
	// BySerials how much of the rest the kernel's serials do, which is weaker: what found the
	// kernel's backlog full leaves no gap.
	ByStatements, BySerials int64
	Records, EventsStored   uint64 // in the slots that the time touches
	// Unsent is how many records the host held at its last word, Oldest since when, At when
	// that was.
	Unsent     uint64
	Oldest, At int64
	Run        Standing
	// Up and Down are since when the host is connected, or is not; both 0 where nobody knows.
	Up, Down int64

	found []Interval // as they were found
}

// Standing is what the host's forwarder said last. The zero one: it never did.
type Standing struct {
	Run, Boot, Rules    string
	Registered, Enabled bool
	Invisible           uint64
	Ended               bool
}

// Sum is all that one cause makes.
type Sum struct {
	Cause    Cause
	N        uint64
	From, To int64
	Length   int64 // of its intervals, ms
	// Dropped and Was are the latest and the worst of its intervals'.
	Dropped int64
	Was     State
}

// Interval is a time that is not plainly complete.
type Interval struct {
	Cause    Cause
	From, To int64
	N        uint64
	// Of Retention: when the records were dropped, 0 where nobody knows, and what was known of
	// the time until then.
	Dropped int64
	Was     State
}

// MaxIntervals is how many intervals an answer has at most: the first ones, and Sums have all.
const MaxIntervals = 10_000

// fresh is how old a host's last word may be, in milliseconds, for it not to be silent.
const fresh = 150_000

// Look says which rows a question about a time needs: entries begin in a row and may end later.
func Look(from, to int64) (int64, int64) { return from - farthest - Day, to }

// accounted leaves days out of which nothing is known but what was dropped: that was imported, is in no account, and does not say
// that the host was heard of then.
func accounted(rows []*Row) []*Row {
	bare := func(r *Row) bool {
		return r.Dropped != 0 && len(r.Counts) == 1 && r.Counts[0].Slot == slotGone && len(r.Stated)+len(r.Chained) == 0 &&
			!slices.ContainsFunc(r.Entries, func(e Entry) bool { return !e.Cause.Drop() })
	}
	known := map[int64]bool{}
	for _, r := range rows {
		if !bare(r) {
			known[DayOf(r.Start)] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(rows), func(r *Row) bool { return bare(r) && !known[DayOf(r.Start)] })
}

// Question is what Judge is asked. Times are in milliseconds.
type Question struct {
	From, To int64 // From 0 is the host's first word, To 0 its last
	// Kept is the first time of which the store still has records, 0 for all.
	Kept int64
	Now  int64
	// First is since when the host is known, 0 where nobody knows.
	First int64
	// Damaged is what the store has lost, of whichever hosts.
	Damaged []Damage
}

// Judge puts together what is known of a host in a time. rows are the host's, in any order; h is
// zero where nothing is known but rows.
func Judge(host string, rows []*Row, h Followed, q Question) *Answer {
	from, to, now := q.From, q.To, q.Now
	a := &Answer{Host: host, From: from, To: to, Up: h.up, Down: h.down}
	if from == 0 {
		rows = accounted(rows)
	}
	all := together(rows)
	if h.run.Run != "" {
		r := &h.run
		a.Run = Standing{Run: r.Run, Boot: r.Boot, Rules: r.Rules, Registered: r.Registered, Enabled: r.Enabled, Invisible: r.Invisible, Ended: r.Ended}
		a.Unsent, a.Oldest, a.At = r.Unsent, r.Oldest, r.Last
	}
	first, last := all.bounds()
	switch { // rows have whole minutes
	case h.run.Run != "" && !h.left(now):
		last = h.run.Last // what came since is not answered for yet
	case h.serials > 0: // a daemon's own records show nothing
		last = h.serials
	case h.last > 0:
		last = h.last
	}
	if from == 0 { // what was dropped as it should be is not asked about
		a.From = max(first, all.goneUntil())
		a.dropped(all)
	}
	open := to == 0
	if to == 0 || to > now {
		a.To = now
	}
	a.note(all.entries, a.To)
	if from == 0 && first == 0 { // nothing that is kept of it is of a time that counts
		a.From = min(cmp.Or(q.First, a.To), a.To)
	}
	if first == 0 || a.From >= a.To {
		a.found = []Interval{{Cause: Unsaid, From: a.From, To: max(a.To, a.From)}}
		a.conclude()
		return a
	}
	// A live host's last minute is not over yet: the answer ends where its last word does.
	if a.To > last && now-last <= fresh && (open || a.To >= now-fresh) {
		a.To = max(last, a.From)
	}
	// Of one that never says that it lives no word is none of silence while it is connected: what is
	// to come will show by its serials whether anything was made since.
	if stock := h.run.Run == "" || h.left(now); stock && h.up != 0 && h.shut == 0 && last > a.From {
		if a.To = min(a.To, last); from == 0 && all.bare() {
			a.From = a.To // its first word is its last
		}
	}
	if h.off != 0 {
		all.entries = append(all.entries, Entry{AuditingOff, h.off, max(h.off, a.To), 0})
	}
	for _, d := range q.Damaged {
		if d.Host == "" || d.Host == host {
			a.damaged(all, d)
		}
	}
	a.judge(all, last, h.shut, q.Kept)
	if a.State == Complete && a.open(all, h.gaps, now) {
		a.State = Pending
	}
	a.found = nil
	return a
}

// whole is all rows of a host, added up.
type whole struct {
	stated, chained Spans
	entries         []Entry
	counts          []slot
	less            []slot // of days: what of counts was dropped since, each day once
	gone            []*Row // whose records were dropped
}

type slot struct {
	from, to        int64
	records, events uint64
}

func together(rows []*Row) *whole {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(x, y *Row) int { return cmp.Or(cmp.Compare(x.Start, y.Start), cmp.Compare(x.Length, y.Length)) })
	w := &whole{}
	n, entries := 0, 0
	for _, r := range rows {
		n, entries = n+len(r.Counts), entries+len(r.Entries)
	}
	w.counts, w.entries = make([]slot, 0, n), make([]Entry, 0, entries+1)
	for _, r := range rows {
		for _, s := range r.Stated {
			w.stated.Add(s.From, s.To)
		}
		for _, s := range r.Chained {
			w.chained.Add(s.From, s.To)
		}
		w.entries = append(w.entries, r.Entries...)
		if r.Dropped != 0 {
			w.gone = append(w.gone, r)
		}
		long := slotLength(r.Length)
		for _, c := range r.Counts {
			at := r.Start + int64(c.Slot)*long
			switch {
			case r.Dropped == 0:
				w.counts = append(w.counts, slot{at, at + long, c.Records, c.Events})
			case c.Slot == slotAll:
				w.counts = append(w.counts, slot{r.Start + 1, r.Start + r.Length, c.Records, c.Events}) // a time up to midnight has none of it
			case c.Slot == slotGone:
				w.lose(slot{r.Start, r.Start + r.Length, c.Records, c.Events})
			}
		}
	}
	slices.SortStableFunc(w.entries, func(x, y Entry) int { return cmp.Or(cmp.Compare(x.From, y.From), int(x.Cause)-int(y.Cause)) })
	return w
}

// lose adds what was dropped of a day.
func (w *whole) lose(s slot) {
	for i := range w.less {
		if x := &w.less[i]; x.from == s.from {
			x.records, x.events = AddUp(x.records, s.records), AddUp(x.events, s.events)
			return
		}
	}
	w.less = append(w.less, s)
}

// bounds are the first and the last time of which anything is known; 0, 0: there is none.
func (w *whole) bounds() (first, last int64) {
	note := func(from, to int64) {
		if first == 0 || from < first {
			first = from
		}
		last = max(last, to)
	}
	for _, s := range []Spans{w.stated, w.chained} {
		if len(s) > 0 {
			note(s[0].From, s[len(s)-1].To)
		}
	}
	for _, e := range w.entries {
		if !e.Cause.Note() {
			note(e.From, e.To)
		}
	}
	if first == 0 { // counts are by minutes
		for _, c := range w.counts {
			note(c.from, c.to)
		}
	}
	return first, last
}

// bare reports whether nothing but counts is known.
func (w *whole) bare() bool {
	return len(w.stated)+len(w.chained) == 0 && !slices.ContainsFunc(w.entries, func(e Entry) bool { return !e.Cause.Note() })
}

// goneUntil is when the last time ends of which records were dropped; 0: none were.
func (w *whole) goneUntil() (until int64) {
	for _, e := range w.entries {
		if e.Cause == Retention {
			until = max(until, e.To)
		}
	}
	return until
}

// dropped makes notes of the events of keys that were dropped as they should be: of an open time they are not asked about.
func (a *Answer) dropped(w *whole) {
	kept := make([]Entry, 0, len(w.entries)+1)
	for _, e := range w.entries {
		switch {
		case e.Cause != ClassRetention:
			kept = append(kept, e)
		case e.To >= a.From:
			x := Interval{Cause: e.Cause, From: max(e.From, a.From), To: e.To, N: e.N}
			x.Dropped, x.Was = w.before(e)
			a.Notes = addSum(a.Notes, x)
		}
	}
	w.entries = kept
}

// stored returns how much is stored of the slots that a time touches. What was dropped of a day whose account has it is
// taken from that day's slots alike: nobody knows when in the day it was.
func (w *whole) stored(from, to int64) (records, events uint64) {
	type day struct{ all, touched slot }
	days := map[int64]*day{}
	for _, g := range w.less {
		days[g.from] = &day{}
	}
	for _, c := range w.counts {
		touched := c.from <= to && c.to > from
		if touched {
			records, events = AddUp(records, c.records), AddUp(events, c.events)
		}
		if d := days[DayOf(c.from)]; d != nil {
			d.all.records, d.all.events = AddUp(d.all.records, c.records), AddUp(d.all.events, c.events)
			if touched {
				d.touched.records, d.touched.events = AddUp(d.touched.records, c.records), AddUp(d.touched.events, c.events)
			}
		}
	}
	part := func(gone, touched, all uint64) uint64 {
		if all <= gone {
			return touched
		}
		return min(touched, uint64(float64(gone)*float64(touched)/float64(all)+0.5))
	}
	for _, g := range w.less {
		d := days[g.from]
		records -= part(g.records, d.touched.records, d.all.records)
		events -= part(g.events, d.touched.events, d.all.events)
	}
	return records, events
}

// before says when a Retention entry's records were dropped, and what was known of the time then.
func (w *whole) before(e Entry) (dropped int64, was State) {
	for _, r := range w.gone {
		if r.Start <= e.From && e.From < r.Start+r.Length {
			dropped = r.Dropped
		}
	}
	known := slices.Clone(w.stated)
	for _, s := range w.chained.Within(e.From, e.To) {
		known.Add(s.From, s.To)
	}
	for _, x := range w.entries {
		if x.Cause.Drop() || x.Cause.Note() || x.From >= e.To || x.To <= e.From && x.From < e.From {
			continue
		}
		if (x.Cause != SerialGap || !w.answered(w.stated, x.From, x.To)) && !w.bridged(x) {
			was = max(was, x.Cause.State())
		}
		known.Add(x.From, x.To)
	}
	if !known.Has(e.From, e.To) {
		was = max(was, Unknown)
	}
	return dropped, was
}

// judge fills in the answer. last is the host's last word, shut when it has shut down since; of what is
// before kept, the records are dropped.
func (a *Answer) judge(w *whole, last, shut, kept int64) {
	known := slices.Clone(w.stated)
	for _, s := range w.chained {
		known.Add(s.From, s.To)
	}
	for _, s := range known.Within(a.From, a.To) {
		a.BySerials += s.To - s.From
	}
	for _, s := range w.stated.Within(a.From, a.To) {
		a.ByStatements += s.To - s.From
	}
	a.BySerials -= a.ByStatements
	settled := slices.Clone(w.stated)
	for _, e := range w.entries {
		if w.bridged(e) {
			settled.Add(e.From, e.To)
		}
	}
	for _, e := range w.entries {
		if e.From > a.To || e.To < a.From || e.To > e.From && (e.From == a.To || e.To == a.From) {
			continue
		}
		if e.Cause.Note() {
			continue // see note
		}
		if e.Cause == SerialGap && w.answered(settled, e.From, e.To) {
			continue // whoever answers for the time has said what was lost, in records
		}
		if w.bridged(e) {
			known.Add(e.From, e.To)
			continue // number follows number: nothing was made that is not here
		}
		x := Interval{Cause: e.Cause, From: max(e.From, a.From), To: min(e.To, a.To), N: e.N}
		if e.Cause.Drop() {
			x.Dropped, x.Was = w.before(e)
		}
		known.Add(e.From, e.To)
		a.found = append(a.found, x)
	}
	for _, s := range known.Without(a.From, a.To) {
		if s.From < kept {
			a.found = append(a.found, Interval{Cause: Retention, From: s.From, To: min(s.To, kept), Was: Unknown})
			s.From = kept
		}
		c := Unsaid
		switch {
		case shut != 0 && s.From >= min(shut, last) && s.To == a.To:
			c = Off
		case s.From >= last:
			c = Silent
		}
		if s.From < s.To {
			a.found = append(a.found, Interval{Cause: c, From: s.From, To: s.To})
		}
	}
	a.Records, a.EventsStored = w.stored(a.From, a.To)
	covered := int64(0)
	for _, s := range known.Within(a.From, a.To) {
		covered += s.To - s.From
	}
	a.BySerials = max(0, covered-a.ByStatements)
	a.conclude()
}

// note sums up what only happened: up to a time that may be after the host's last word.
func (a *Answer) note(entries []Entry, to int64) {
	for _, e := range entries {
		if e.Cause.Note() && e.From <= to && e.To >= a.From {
			a.Notes = addSum(a.Notes, Interval{Cause: e.Cause, From: max(e.From, a.From), To: min(e.To, to), N: e.N})
		}
	}
	if a.Down != 0 && a.Down < to {
		from := max(a.Down, a.From)
		a.Notes = addSum(a.Notes, Interval{Cause: Disconnected, From: from, To: max(from, to)})
	}
}

// bridged reports whether the serials show that nothing is missing of a time in which the forwarder
// did not run. Of a daemon that leaves, the kernel makes one event, which nobody gets.
func (w *whole) bridged(e Entry) bool {
	if e.Cause != Died && e.Cause != Stopped || !w.chained.Has(e.From, max(e.To, e.From+1)) {
		return false
	}
	missing := uint64(0)
	for _, g := range w.entries {
		if g.Cause == SerialGap && g.From < e.To && g.To > e.From {
			missing = AddUp(missing, g.N)
		}
	}
	return missing == 0 || e.Cause == Stopped && missing == 1
}

// answered reports whether somebody answers for what was passed over in a time, which settled times have. Nobody does where
// it was passed over while a forwarder did not run: after a clock was set back, statements name such a time, too, and mean another.
func (w *whole) answered(settled Spans, from, to int64) bool {
	return settled.Has(from, max(to, from+1)) && !slices.ContainsFunc(w.entries, func(e Entry) bool {
		edge := from <= e.From && e.From < to || from < e.To && e.To <= to // entries that were joined may be long
		return edge && (e.Cause == Died || e.Cause == Stopped) && !w.bridged(e)
	})
}

// open reports whether events of a time for which nobody answers were passed over a while ago:
// in some seconds they are there, or missing.
func (a *Answer) open(w *whole, gaps []gap, now int64) bool {
	return slices.ContainsFunc(gaps, func(g gap) bool {
		return now-g.found > gapOpen && g.from < a.To && g.to > a.From && !w.answered(w.stated, g.from, g.to)
	})
}

// gapOpen is for how long, in milliseconds, numbers may be passed over without a word: CPUs queue
// their records in their own time.
const gapOpen = 1_000
