package several

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Coverage implements api.Source. What one collector does not know of a host is no gap while another one answers
// for the time; what a host said that it lost itself stays lost. See covered.
func (s *Source) Coverage(ctx context.Context, req *fleet.CoverageRequest, fn func(*fleet.Coverage) error) error {
	answers, err := s.coverageOfEach(ctx, req)
	if err != nil {
		return err
	}
	var look [][]byte // hosts of which each collector's intervals are needed
	for name, list := range answers.of {
		if len(list) > 1 || req.GetNote() {
			look = append(look, []byte(name))
		}
	}
	if len(look) > 0 {
		slices.SortFunc(look, bytes.Compare)
		if err := s.combine(ctx, req, look, answers); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(answers.of)) {
		for _, c := range answers.of[name] {
			if req.GetNote() {
				if c = api.Lacking(c); c == nil {
					continue
				}
			}
			if err := fn(c); err != nil {
				return err
			}
		}
	}
	return answers.unheardBy(len(s.asked()), fn)
}

// answers are what collectors say, by host.
type answers struct {
	of map[string][]*fleet.Coverage
	// unheard are names that some collector has never heard of, and the answers that say so.
	unheard map[string][]*fleet.Coverage
}

// unheardBy calls fn with the answer for each name that no collector has heard of. Of a pattern, one that has is enough,
// and one host is for the question about all.
func (a *answers) unheardBy(collectors int, fn func(*fleet.Coverage) error) error {
	for _, name := range slices.Sorted(maps.Keys(a.unheard)) {
		if list := a.unheard[name]; len(list) >= collectors && len(a.of[name]) == 0 && (name != "" || len(a.of) == 0) {
			if err := fn(list[0]); err != nil {
				return err
			}
		}
	}
	return nil
}

// coverageOfEach asks all collectors at once.
func (s *Source) coverageOfEach(ctx context.Context, req *fleet.CoverageRequest) (*answers, error) {
	all := &answers{of: map[string][]*fleet.Coverage{}, unheard: map[string][]*fleet.Coverage{}}
	members := s.asked()
	lists := make([][]*fleet.Coverage, len(members))
	var asking sync.WaitGroup
	for i, m := range members {
		own := &fleet.CoverageRequest{Hosts: req.GetHosts(), FromMs: req.GetFromMs(), ToMs: req.GetToMs(), Intervals: req.GetIntervals(), Note: req.GetNote()}
		asking.Go(func() {
			err := s.call(ctx, m, func(ctx context.Context) error {
				return m.src.Coverage(ctx, own, func(c *fleet.Coverage) error {
					lists[i] = append(lists[i], c)
					return nil
				})
			})
			switch {
			case err == nil || ctx.Err() != nil:
			case errors.Is(err, store.ErrDamaged):
				s.lacks(m, err)
			default:
				s.fail(m, Failure{Err: err, Part: len(lists[i]) > 0})
			}
		})
	}
	asking.Wait()
	for _, list := range lists { // in the order of the collectors: an answer does not depend on which was quick
		for _, c := range list {
			if name := string(c.GetHost()); c.GetUnheard() {
				all.unheard[name] = append(all.unheard[name], c)
			} else {
				all.of[name] = append(all.of[name], c)
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return all, s.none()
}

// combine puts one answer for each of some hosts in place of those of collectors.
func (s *Source) combine(ctx context.Context, req *fleet.CoverageRequest, hosts [][]byte, have *answers) error {
	wanted := map[string]bool{}
	for _, h := range hosts {
		wanted[string(h)] = true
	}
	for part := range slices.Chunk(hosts, maxNames) {
		again := &fleet.CoverageRequest{Hosts: part, FromMs: req.GetFromMs(), ToMs: req.GetToMs(), Intervals: true}
		if slices.ContainsFunc(hosts, func(h []byte) bool { return len(h) == 0 || bytes.ContainsAny(h, "*?[\\") }) {
			part, again.Hosts = nil, req.GetHosts() // such a name would be a pattern
		}
		all, err := s.coverageOfEach(ctx, again)
		if err != nil {
			return err
		}
		for name, list := range all.of {
			if !wanted[name] {
				continue
			}
			one := list[0]
			if len(list) > 1 {
				one = covered(list)
			}
			if !req.GetIntervals() {
				one.Intervals = nil
			}
			have.of[name] = []*fleet.Coverage{one}
		}
		if part == nil {
			return nil
		}
	}
	return nil
}

// stays says of each cause that makes a time lost whether another collector's word that the time is complete
// changes nothing: the host itself has lost the records.
func stays(x *fleet.CoverageInterval) bool {
	switch x.GetCause() {
	case ledger.SerialGap.String(), ledger.Retention.String(), ledger.Damaged.String():
		return false
	}
	return x.GetState() == ledger.Lost.String()
}

// covered makes one answer of those of several collectors about the same host, with their intervals. A time is
// complete for which one of them says so: its account has all that the host handed on then. What is left of each collector's gaps is gaps; and
// so is a time of which no collector says anything.
func covered(list []*fleet.Coverage) *fleet.Coverage {
	out, newest := joinedStanding(list)
	var complete, told ledger.Spans
	for _, c := range list {
		told.Add(c.GetFromMs(), c.GetToMs())
		at := c.GetFromMs()
		gaps := slices.Clone(c.GetIntervals())
		slices.SortFunc(gaps, byTime)
		for _, x := range gaps {
			if x.GetState() == ledger.Complete.String() {
				continue
			}
			if at < x.GetFromMs() {
				complete.Add(at, x.GetFromMs())
			}
			at = max(at, x.GetToMs())
		}
		if at < c.GetToMs() && len(gaps) < ledger.MaxIntervals {
			complete.Add(at, c.GetToMs())
		}
	}
	for _, c := range list {
		for _, x := range c.GetIntervals() {
			if x.GetState() == ledger.Complete.String() || stays(x) {
				out.Intervals = append(out.Intervals, x)
				continue
			}
			out.Intervals = append(out.Intervals, left(x, out.GetToMs(), complete)...)
		}
	}
	unsaid := &fleet.CoverageInterval{Cause: ledger.Unsaid.String(), Hop: ledger.Unsaid.Hop(), State: ledger.Unsaid.State().String(), FromMs: out.GetFromMs(), ToMs: out.GetToMs()}
	out.Intervals = append(out.Intervals, left(unsaid, out.GetToMs(), told)...)
	slices.SortStableFunc(out.Intervals, byTime)
	conclude(out, newest.GetState())
	return out
}

func byTime(a, b *fleet.CoverageInterval) int { return cmp.Compare(a.GetFromMs(), b.GetFromMs()) }

// left is what is left of an interval up to a time, without the times that are complete. How many records are missing is said with the first
// part.
func left(x *fleet.CoverageInterval, until int64, complete ledger.Spans) (list []*fleet.CoverageInterval) {
	from, to := x.GetFromMs(), min(x.GetToMs(), until)
	if from == to {
		if complete.Has(from, to+1) {
			return nil
		}
		return []*fleet.CoverageInterval{x}
	}
	for _, part := range complete.Without(from, to) {
		one := &fleet.CoverageInterval{Cause: x.GetCause(), Hop: x.GetHop(), State: x.GetState(), FromMs: part.From, ToMs: part.To, DroppedMs: x.GetDroppedMs(), Was: x.GetWas()}
		if len(list) == 0 {
			one.Records = x.GetRecords()
		}
		list = append(list, one)
	}
	return list
}

// silent is 1 where the host has not been heard of up to the end of the time.
func silent(c *fleet.Coverage) int {
	for _, x := range c.GetIntervals() {
		if x.GetCause() == ledger.Silent.String() && x.GetToMs() == c.GetToMs() {
			return 1
		}
	}
	return 0
}

// joinedStanding puts together all but what is missing, and returns the answer of the collector that heard of the host last: up to
// its word the answer goes, for what the others lack since then it has.
func joinedStanding(list []*fleet.Coverage) (out, newest *fleet.Coverage) {
	newest = slices.MaxFunc(list, func(a, b *fleet.Coverage) int {
		return cmp.Or(silent(b)-silent(a), cmp.Compare(a.GetSaidMs(), b.GetSaidMs()), cmp.Compare(a.GetToMs(), b.GetToMs()))
	})
	out = &fleet.Coverage{
		Host: newest.GetHost(), FromMs: newest.GetFromMs(), ToMs: newest.GetToMs(), SaidMs: newest.GetSaidMs(), Unsent: newest.GetUnsent(), OldestMs: newest.GetOldestMs(),
		Run: newest.GetRun(), Boot: newest.GetBoot(), Rules: newest.GetRules(), Registered: newest.GetRegistered(), Enabled: newest.GetEnabled(), Invisible: newest.GetInvisible(),
		Held: true,
	}
	for _, c := range list {
		out.FromMs = min(out.GetFromMs(), c.GetFromMs())
		out.ByStatementsMs += c.GetByStatementsMs()
		out.BySerialsMs += c.GetBySerialsMs()
		out.Records += c.GetRecords()
		out.EventsStored += c.GetEventsStored()
		out.UpMs, out.DownMs = max(out.GetUpMs(), c.GetUpMs()), max(out.GetDownMs(), c.GetDownMs())
		out.Held = out.GetHeld() && c.GetHeld()
		if until := c.GetRetainedUntilMs(); until != 0 && (out.GetRetainedUntilMs() == 0 || until < out.GetRetainedUntilMs()) {
			out.RetainedUntilMs = until
		}
		for _, x := range c.GetNotes() {
			out.Notes = addCause(out.GetNotes(), x)
		}
	}
	if out.GetUpMs() != 0 { // connected to one of them
		out.DownMs = 0
	}
	length := out.GetToMs() - out.GetFromMs()
	out.ByStatementsMs = min(out.GetByStatementsMs(), length)
	out.BySerialsMs = min(out.GetBySerialsMs(), length-out.GetByStatementsMs())
	return out, newest
}

// conclude adds up what is missing. state is what the collector says that heard of the host last.
func conclude(out *fleet.Coverage, state string) {
	rank := []string{ledger.Complete.String(), ledger.Pending.String(), ledger.Unknown.String(), ledger.Lost.String()}
	out.State = rank[0]
	if state == ledger.Pending.String() {
		out.State = state
	}
	for _, x := range out.GetIntervals() {
		if slices.Index(rank, x.GetState()) > slices.Index(rank, out.GetState()) {
			out.State = x.GetState()
		}
		if x.GetState() == ledger.Lost.String() {
			out.Lost = ledger.AddUp(out.GetLost(), x.GetRecords())
			if x.GetCause() == ledger.SerialGap.String() {
				out.Events = ledger.AddUp(out.GetEvents(), x.GetRecords())
			}
		}
		out.Causes = addCause(out.GetCauses(), causeOf(x))
	}
}

// causeOf is a cause that has made one interval.
func causeOf(x *fleet.CoverageInterval) *fleet.CoverageCause {
	return &fleet.CoverageCause{
		Cause: x.GetCause(), Hop: x.GetHop(), State: x.GetState(), Records: x.GetRecords(), FromMs: x.GetFromMs(), ToMs: x.GetToMs(), LengthMs: x.GetToMs() - x.GetFromMs(),
		DroppedMs: x.GetDroppedMs(), Was: x.GetWas(),
	}
}

// addCause adds what a cause makes to the list.
func addCause(list []*fleet.CoverageCause, x *fleet.CoverageCause) []*fleet.CoverageCause {
	i := slices.IndexFunc(list, func(c *fleet.CoverageCause) bool { return c.GetCause() == x.GetCause() })
	if i < 0 {
		return append(list, &fleet.CoverageCause{
			Cause: x.GetCause(), Hop: x.GetHop(), State: x.GetState(), Records: x.GetRecords(), FromMs: x.GetFromMs(), ToMs: x.GetToMs(), LengthMs: x.GetLengthMs(),
			DroppedMs: x.GetDroppedMs(), Was: x.GetWas(),
		})
	}
	c := list[i]
	c.Records = ledger.AddUp(c.GetRecords(), x.GetRecords())
	c.FromMs, c.ToMs = min(c.GetFromMs(), x.GetFromMs()), max(c.GetToMs(), x.GetToMs())
	c.LengthMs += x.GetLengthMs()
	c.DroppedMs = max(c.GetDroppedMs(), x.GetDroppedMs())
	return list
}
