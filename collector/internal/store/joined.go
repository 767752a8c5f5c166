package store

import (
	"bytes"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Joined makes of what several collectors have of one host, time and serial what one store would have: lists
// has the events of each collector in stored order. An event that several have is there once. Events of which
// one lacks records that another has are one with the records of both, unless each is whole by itself.
//
// A host sends in order, and what it sends again is what it sent last: so what two collectors have of one event
// are the records up to some, and those from there on, or from some before.
func Joined(lists [][]Found) []Found {
	out := lists[0]
	for _, list := range lists[1:] {
		out = joinedTo(out, list)
	}
	return out
}

// JoinedBySender is Joined of the events of each sender: who sends under a name that is another's adds nothing to that one's events. Events whose sender
// is not known stay as they are.
func JoinedBySender(lists [][]Found) (out []Found) {
	for len(lists) > 0 {
		from := lists[0][0].SentBy()
		var same, others [][]Found
		for _, list := range lists {
			var mine, rest []Found
			for _, f := range list {
				if f.SentBy() == from {
					mine = append(mine, f)
				} else {
					rest = append(rest, f)
				}
			}
			if len(mine) > 0 {
				same = append(same, mine)
			}
			if len(rest) > 0 {
				others = append(others, rest)
			}
		}
		if lists = others; from == "" { // nobody knows whose they are
			out = append(out, slices.Concat(same...)...)
		} else {
			out = append(out, Joined(same)...)
		}
	}
	return out
}

// joinedTo adds the events of one more collector.
func joinedTo(have, more []Found) []Found {
	if len(have) == 1 && len(more) == 1 && have[0].Counted == more[0].Counted && bytes.Equal(have[0].Text, more[0].Text) {
		return have
	}
	out := make([]*joining, 0, len(have)+len(more))
	for i := range have {
		out = append(out, &joining{found: have[i], ev: joiningEvent(&have[i])})
	}
	for i := range more {
		ev := joiningEvent(&more[i])
		at := slices.IndexFunc(out, func(k *joining) bool { return k.answers(ev) })
		if at < 0 && !single(ev) {
			at = slices.IndexFunc(out, func(k *joining) bool { return k.takes(ev) })
			if at >= 0 { // an event that was cut in one store is whole now
				whole := out[at]
				out = slices.DeleteFunc(out, func(k *joining) bool { return k != whole && !single(k.ev) && within(k.ev, whole.ev) >= 0 })
				continue
			}
		}
		if at < 0 {
			out = append(out, &joining{found: more[i], ev: ev, claimed: true})
		}
	}
	list := make([]Found, len(out))
	for i, k := range out {
		list[i] = k.found
	}
	return list
}

// joining is an event that collectors before have, or that was put together.
type joining struct {
	found   Found
	ev      *event.Event
	claimed bool // the present collector has the same
}

func joiningEvent(f *Found) *event.Event {
	host := f.Host
	if host == "" {
		host = f.Node
	}
	return ParseText(f.Text, f.Counted, []byte(host), f.Origin)
}

// answers reports whether all of an event is known. One that is the same answers for one.
func (k *joining) answers(ev *event.Event) bool {
	if within(ev, k.ev) < 0 {
		return false
	}
	if len(ev.Records) < len(k.ev.Records) {
		return !single(ev)
	}
	free := !k.claimed
	k.claimed = true
	return free
}

// takes joins an event to the known one, if both are parts of one.
func (k *joining) takes(ev *event.Event) bool {
	have, more := k.ev.Records, ev.Records
	behind, before := overlap(have, more), overlap(more, have)
	switch {
	case single(k.ev), behind+before == 0 && whole(k.ev) && whole(ev):
		return false
	case within(k.ev, ev) >= 0:
		k.ev.Records = more
	case behind > 0 && behind >= before:
		k.ev.Records = slices.Concat(have, more[behind:])
	case before > 0:
		k.ev.Records = slices.Concat(more, have[before:])
	default:
		k.ev.Records = slices.Insert(slices.Clone(have), k.place(ev), more...)
	}
	was := k.found
	k.found = FoundOf(k.ev)
	k.found.Key, k.found.Batch, k.found.Host = was.Key, was.Batch, was.Host
	return true
}

// place is where records go of which none is known.
func (k *joining) place(ev *event.Event) int {
	switch end := slices.IndexFunc(k.ev.Records, isEnd); {
	case begins(ev), end >= 0 && !begins(k.ev):
		return 0
	case end >= 0:
		return end
	}
	return len(k.ev.Records)
}

// within is the place in an event's records from which on another's are; -1 where they are not.
func within(part, ev *event.Event) int {
	for i := 0; i+len(part.Records) <= len(ev.Records); i++ {
		if slices.EqualFunc(part.Records, ev.Records[i:i+len(part.Records)], equal) {
			return i
		}
	}
	return -1
}

// overlap is how many records at the end of a are those at the beginning of b, at most.
func overlap(a, b []record.Record) int {
	for n := min(len(a), len(b)); n > 0; n-- {
		if slices.EqualFunc(a[len(a)-n:], b[:n], equal) {
			return n
		}
	}
	return 0
}

func equal(a, b record.Record) bool { return bytes.Equal(a.Raw, b.Raw) }

// whole reports whether an event has its beginning and its end.
func whole(ev *event.Event) bool {
	return single(ev) || begins(ev) && slices.ContainsFunc(ev.Records, isEnd)
}

// single reports whether an event is of one record, or of a line that is none.
func single(ev *event.Event) bool {
	return len(ev.Records) == 0 || !ev.Records[0].IsRecord() || event.IsSingle(ev.Records[0].Type)
}

// begins reports whether a system call's event has its first record, and isEnd whether a record is its last.
func begins(ev *event.Event) bool { return ev.Records[0].Type == tables.Syscall }
func isEnd(r record.Record) bool  { return r.Type == tables.Proctitle }
