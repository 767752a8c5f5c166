package several

import (
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Within is what an answer about a host's whole time, with its intervals, says of a part of it, both in ms since 1970 and 0 for open; nil where it says nothing. How
// many records there are of a part it does not know.
func Within(c *fleet.Coverage, from, to int64) *fleet.Coverage {
	end := c.GetToMs()
	if to != 0 {
		end = min(end, to)
	}
	if max(from, c.GetFromMs()) >= end {
		return nil
	}
	out := &fleet.Coverage{
		Host: c.GetHost(), FromMs: max(from, c.GetFromMs()), ToMs: end, SaidMs: c.GetSaidMs(), Unsent: c.GetUnsent(), OldestMs: c.GetOldestMs(),
		Run: c.GetRun(), Boot: c.GetBoot(), Rules: c.GetRules(), Registered: c.GetRegistered(), Enabled: c.GetEnabled(), Invisible: c.GetInvisible(),
		ByStatementsMs: min(c.GetByStatementsMs(), end-max(from, c.GetFromMs())), Notes: c.GetNotes(),
	}
	out.BySerialsMs = min(c.GetBySerialsMs(), end-out.GetFromMs()-out.GetByStatementsMs())
	if out.GetFromMs() == c.GetFromMs() && end == c.GetToMs() {
		out.Records, out.EventsStored = c.GetRecords(), c.GetEventsStored()
	}
	for _, x := range c.GetIntervals() {
		at, until := max(x.GetFromMs(), out.GetFromMs()), min(x.GetToMs(), end)
		if at > until || at == until && x.GetFromMs() != x.GetToMs() {
			continue
		}
		part := &fleet.CoverageInterval{Cause: x.GetCause(), Hop: x.GetHop(), State: x.GetState(), FromMs: at, ToMs: until, DroppedMs: x.GetDroppedMs(), Was: x.GetWas(), Records: x.GetRecords()}
		out.Intervals = append(out.Intervals, part)
	}
	state := c.GetState()
	if end < c.GetToMs() {
		state = ledger.Complete.String()
	}
	conclude(out, state)
	return out
}

// WithLoss adds to an answer that a collector was lost with records of the host, which came within a time and are not stored.
func WithLoss(c *fleet.Coverage, records uint64, from, to int64) {
	x := ledger.CollectorLost
	c.FromMs, c.ToMs = min(c.GetFromMs(), from), max(c.GetToMs(), to)
	c.Intervals = append(c.GetIntervals(), causedBy(x, records, from, to))
	state := c.GetState()
	c.Lost, c.Events, c.Causes = 0, 0, nil
	conclude(c, state)
}

// Drop is what was dropped of a host's events, as it should be: of a time, when it was, and whether it was of events of a key.
type Drop struct {
	From, To, At int64
	Key          bool
}

// cause is what it is for an account.
func (d *Drop) cause() ledger.Cause {
	if d.Key {
		return ledger.ClassRetention
	}
	return ledger.Retention
}

// WithDrops adds to an answer what was dropped of its time: how many records that were is not known, nor how many are left. open says that the answer begins where it can: of
// events of keys it is only noted then, as each collector does of its own.
func WithDrops(c *fleet.Coverage, drops []Drop, open bool) {
	state, some := c.GetState(), false
	for i := range drops {
		d := &drops[i]
		from, to := max(d.From, c.GetFromMs()), min(d.To, c.GetToMs())
		if from >= to {
			continue
		}
		one := causedBy(d.cause(), 0, from, to)
		if slices.ContainsFunc(c.GetIntervals(), func(x *fleet.CoverageInterval) bool {
			return x.GetCause() == one.GetCause() && x.GetFromMs() <= from && x.GetToMs() >= to
		}) {
			continue // it says so already, and how many
		}
		some = true
		one.DroppedMs, one.Was = d.At, state
		if d.Key && open {
			c.Notes = addCause(c.GetNotes(), causeOf(one))
			continue
		}
		c.Intervals = append(c.GetIntervals(), one)
	}
	if some {
		c.Lost, c.Events, c.Causes, c.Records, c.EventsStored = 0, 0, nil, 0, 0
		conclude(c, state)
	}
}

// Unsaid is the answer about a time of which nothing is known.
func Unsaid(host []byte, from, to int64) *fleet.Coverage {
	x := ledger.Unsaid
	c := &fleet.Coverage{Host: host, FromMs: from, ToMs: to}
	c.Intervals = append(c.Intervals, causedBy(x, 0, from, to))
	conclude(c, x.State().String())
	return c
}

// causedBy is a time of which a cause says what is lost or not known.
func causedBy(x ledger.Cause, records uint64, from, to int64) *fleet.CoverageInterval {
	return &fleet.CoverageInterval{Cause: x.String(), Hop: x.Hop(), State: x.State().String(), Records: records, FromMs: from, ToMs: to}
}
