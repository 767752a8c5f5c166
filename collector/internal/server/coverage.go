package server

import (
	"context"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// coverage answers from a head, host by host, and last for each name or pattern that no host has:
// a check of a mistyped name must not look like a good one.
func coverage(ctx context.Context, h *head.Head, k *keeping, req *fleet.CoverageRequest, fn func(*fleet.Coverage) error) error {
	q := head.CoverageQuery{From: req.GetFromMs(), To: req.GetToMs()}
	names := req.GetHosts()
	if len(names) > 0 {
		q.Want = func(host string) bool {
			return slices.ContainsFunc(names, func(n []byte) bool { return query.Like(string(n), host) })
		}
	}
	any, heard := false, make([]bool, len(names))
	err := h.EachAnswer(ctx, q, func(a *ledger.Answer) error {
		any = true
		for i, n := range names {
			heard[i] = heard[i] || query.Like(string(n), a.Host)
		}
		out := api.FromAnswer(a, req.GetIntervals())
		if a.From > 0 {
			out.RetainedUntilMs, out.Held = k.until(a.From, a.To)
		}
		return fn(out)
	})
	if err != nil {
		return err
	}
	if !any && len(names) == 0 {
		return fn(unheard(nil, req))
	}
	for i, n := range names {
		if !heard[i] {
			if err := fn(unheard(n, req)); err != nil {
				return err
			}
		}
	}
	return nil
}

// unheard is the answer about a name that no host has.
func unheard(name []byte, req *fleet.CoverageRequest) *fleet.Coverage {
	a := &ledger.Answer{Host: string(name), State: ledger.Unknown}
	if a.From = req.GetFromMs(); a.From != 0 {
		a.To = req.GetToMs()
	}
	a.Causes = []ledger.Sum{{Cause: ledger.Unsaid, From: a.From, To: a.To}}
	out := api.FromAnswer(a, false)
	out.Unheard = true
	return out
}

// keeping says until when a time is kept.
type keeping struct {
	days  int               // that retention keeps, 0 where nobody knows: a day goes when that many have begun after it
	parts []store.PartStats // by day, where anything is on hold
	held  []bool            // each of parts
}

// holds finds out which parts are on hold.
func (k *keeping) holds(ctx context.Context, set *hold.Set, keep *hold.Keep, events store.Events) error {
	if len(set.List()) == 0 && set.Broken() == nil {
		return nil
	}
	st, err := events.Stats(ctx)
	if err != nil {
		return err
	}
	k.parts = st.Parts
	for i := range k.parts {
		k.held = append(k.held, keep.Why(ctx, &k.parts[i]) != "")
	}
	return ctx.Err()
}

// until returns until when all of a time is kept, 0 where nobody knows; held is true where all that is
// stored of it is on hold.
func (k *keeping) until(from, to int64) (until int64, held bool) {
	first := ledger.DayOf(from) // from here on nothing is on hold
	for i := range k.parts {
		day := k.parts[i].Day.Time().UnixMilli()
		if day < ledger.DayOf(from) || day > to {
			continue
		}
		if first = day; !k.held[i] {
			held = false
			break
		}
		held = true
	}
	if held || k.days <= 0 {
		return 0, held
	}
	return first + int64(k.days)*ledger.Day, false
}
