package several

import (
	"bytes"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// joined makes of what several collectors have of one host, time and serial what one store would have: lists
// has the events of each collector in stored order. An event that several have is there once. Events of which
// one lacks records that another has are one with the records of both, unless each is whole by itself.
func joined(lists [][]store.Found) []store.Found {
	out := lists[0]
	for _, list := range lists[1:] {
		out = joinedTo(out, list)
	}
	return out
}

// joinedTo adds the events of one more collector.
func joinedTo(have, more []store.Found) []store.Found {
	if len(have) == 1 && len(more) == 1 && have[0].Counted == more[0].Counted && bytes.Equal(have[0].Text, more[0].Text) {
		return have
	}
	// Each record of have answers for one of more that is equal to it.
	known := make([]*known, len(have))
	for i := range have {
		known[i] = knownOf(&have[i])
	}
	out := slices.Clone(have)
	for i := range more {
		ev := parsed(&more[i])
		at, shared := -1, -1
		for j, k := range known {
			if n := k.shares(ev); n > shared {
				at, shared = j, n
			}
		}
		k := known[at]
		switch {
		case shared == len(ev.Records): // it is there
			k.answer(ev)
		case !k.open && whole(ev), single(ev), k.single && shared == 0: // another event
			out = append(out, more[i])
		default:
			k.take(ev)
			out[at] = store.FoundOf(k.ev)
			out[at].Key, out[at].Batch = have[at].Key, have[at].Batch
		}
	}
	return out
}

// known is an event that earlier collectors have.
type known struct {
	ev     *event.Event
	left   []bool // of each record: none of the present collector's was compared with it yet
	open   bool   // it lacks its beginning or its end
	single bool
}

func knownOf(f *store.Found) *known {
	ev := parsed(f)
	k := &known{ev: ev, left: make([]bool, len(ev.Records)), open: !whole(ev), single: single(ev)}
	for i := range k.left {
		k.left[i] = true
	}
	return k
}

func parsed(f *store.Found) *event.Event {
	host := f.Host
	if host == "" {
		host = f.Node
	}
	return store.ParseText(f.Text, f.Counted, []byte(host), f.Origin)
}

// match calls fn with the place of each record of ev among those that are left, -1 for none.
func (k *known) match(ev *event.Event, fn func(i, at int)) {
	used := make([]bool, len(k.left))
	for i := range ev.Records {
		at := -1
		for j := range k.left {
			if k.left[j] && !used[j] && bytes.Equal(k.ev.Records[j].Raw, ev.Records[i].Raw) {
				at, used[j] = j, true
				break
			}
		}
		fn(i, at)
	}
}

// shares is how many of an event's records are known.
func (k *known) shares(ev *event.Event) (n int) {
	k.match(ev, func(_, at int) {
		if at >= 0 {
			n++
		}
	})
	return n
}

// answer takes an event's records as known.
func (k *known) answer(ev *event.Event) {
	var gone []int
	k.match(ev, func(_, at int) {
		if at >= 0 {
			gone = append(gone, at)
		}
	})
	for _, at := range gone {
		k.left[at] = false
	}
}

// take adds the records of an event that are not known: each behind the one before it, those before all that are
// known before the first of these, and where none is known as begin and end say.
func (k *known) take(ev *event.Event) {
	at := make([]int, len(ev.Records))
	k.match(ev, func(i, to int) { at[i] = to })
	records := slices.Clone(k.ev.Records)
	next := k.place(ev)
	if i := slices.IndexFunc(at, func(to int) bool { return to >= 0 }); i >= 0 {
		next = at[i]
	}
	added := 0
	for i, to := range at {
		if to >= 0 {
			k.left[to+added] = false
			next = to + added + 1
			continue
		}
		records = slices.Insert(records, next, ev.Records[i])
		k.left = slices.Insert(k.left, next, false)
		next++
		added++
	}
	k.ev.Records = records
	k.open = !whole(k.ev)
}

// place is where an event's records go of which none is known.
func (k *known) place(ev *event.Event) int {
	if begins(ev) {
		return 0
	}
	if i := slices.IndexFunc(k.ev.Records, isEnd); i >= 0 {
		if begins(k.ev) {
			return i
		}
		return 0
	}
	return len(k.ev.Records)
}

// whole reports whether an event has its beginning and its end.
func whole(ev *event.Event) bool { return single(ev) || begins(ev) && slices.ContainsFunc(ev.Records, isEnd) }

// single reports whether an event is of one record, or of a line that is none.
func single(ev *event.Event) bool {
	return len(ev.Records) == 0 || !ev.Records[0].IsRecord() || event.IsSingle(ev.Records[0].Type)
}

// begins reports whether a system call's event has its first record, and isEnd whether a record is its last.
func begins(ev *event.Event) bool { return ev.Records[0].Type == tables.Syscall }
func isEnd(r record.Record) bool  { return r.Type == tables.Proctitle }
