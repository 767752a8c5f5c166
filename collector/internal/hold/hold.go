// Package hold keeps what an administrator has put on hold: days, and hosts, whose partitions
// retention does not drop, whatever its limits. The list lies in a file of its own in the store's
// folder (FORMAT.md). When that file cannot be believed, everything is on hold. Retention asks; the
// collector's server, the command line and a backup use it.
package hold

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Bounds of what one list holds.
const (
	MaxHolds  = 1000
	MaxReason = 500 // bytes
)

var (
	// ErrNoHold is returned for a hold to be removed that is not there.
	ErrNoHold = errors.New("there is no such hold")
	// ErrWords is returned for words that name no day and no host, and for reasons that are too long.
	ErrWords = errors.New("wrong words")
)

// Hold is one thing on hold.
type Hold struct {
	// What is a day of receipt (2026-11-22), days from one to another (2026-11-01..2026-11-05, both
	// included), or a host, by name or by a pattern as query.Like has it.
	What   string    `json:"what"`
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty"` // who added it: "uid=0 auid=1000", or "name=…" of a certificate
	At     time.Time `json:"at"`
}

// Check returns why a word cannot be put on hold; nil when it can.
func Check(what string) error {
	_, _, days, err := daysOf(what)
	switch {
	case err != nil:
		return err
	case days:
	case what == "" || len(what) > store.MaxName || !utf8.ValidString(what) || strings.ContainsFunc(what, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return fmt.Errorf("%w: %.80q is no name of a host", ErrWords, what)
	}
	return nil
}

// daysOf reads a day or days; days is false for a host.
func daysOf(what string) (first, last store.Day, days bool, err error) {
	from, to, span := strings.Cut(what, "..")
	first, err = store.ParseDay(from)
	if err != nil {
		if looksLikeDay(from) {
			return 0, 0, false, fmt.Errorf("%w: %.80q is no day, such as 2026-11-22, and no days, such as 2026-11-01..2026-11-05", ErrWords, what)
		}
		return 0, 0, false, nil
	}
	if !span {
		return first, first, true, nil
	}
	if last, err = store.ParseDay(to); err != nil || last < first {
		return 0, 0, false, fmt.Errorf("%w: %.80q: days are written 2026-11-01..2026-11-05, the earlier one first", ErrWords, what)
	}
	return first, last, true, nil
}

// looksLikeDay reports whether a word that is no day was meant to be one: it begins with a year and
// a dash, and has digits and signs only. A part of a day (2026-11-22.2) is held with its day.
func looksLikeDay(what string) bool {
	return len(what) > 5 && what[4] == '-' && strings.Trim(what[:4], "0123456789") == "" && strings.Trim(what, "0123456789-./:") == ""
}

// IsHost reports whether the hold is on a host, not on days.
func (h *Hold) IsHost() bool {
	_, _, days, err := daysOf(h.What)
	return err == nil && !days
}

// OfDays reports whether the hold is on a day from one to another, both included.
func (h *Hold) OfDays(from, to store.Day) bool {
	first, last, days, err := daysOf(h.What)
	return err == nil && days && first <= to && from <= last
}

// OfHost reports whether the hold is on a host of that name. Names that differ in case only, or by
// a dot at the end, are the same.
func (h *Hold) OfHost(name string) bool {
	return h.IsHost() && (query.Like(h.What, name) || query.Like(event.FoldName(h.What), event.FoldName(name)))
}

// Change is what an administrator wants changed.
type Change struct {
	Add, Remove []string
	// All removes all holds, and begins a new list where the list cannot be believed.
	All    bool
	Reason string // of those added, or why they are removed
	By     string
}

// Done is one thing that a change has done: for the collector's own record.
type Done struct {
	Op     string    `json:"op"` // add or remove
	What   string    `json:"what"`
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty"`
	At     time.Time `json:"at"`
}

// apply returns the list after a change, and what the change did. A hold that is there already
// stays, with a new reason where one is given.
func (c *Change) apply(list []Hold, now time.Time) (out []Hold, done []Done, err error) {
	if len(c.Reason) > MaxReason || !utf8.ValidString(c.Reason) || strings.ContainsFunc(c.Reason, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, nil, fmt.Errorf("%w: a reason is one line of at most %d bytes", ErrWords, MaxReason)
	}
	out = slices.Clone(list)
	did := func(op, what string) {
		done = append(done, Done{Op: op, What: what, Reason: c.Reason, By: c.By, At: now})
	}
	find := func(what string) int { return slices.IndexFunc(out, func(h Hold) bool { return h.What == what }) }
	for _, what := range c.Add {
		if err := Check(what); err != nil {
			return nil, nil, err
		}
		h := Hold{What: what, Reason: c.Reason, By: c.By, At: now}
		switch i := find(what); {
		case i < 0:
			out = append(out, h)
		case c.Reason == "" || out[i].Reason == c.Reason:
			continue
		default:
			out[i].Reason = c.Reason
		}
		did("add", what)
	}
	remove := c.Remove
	if c.All {
		remove = nil
		for _, h := range out {
			remove = append(remove, h.What)
		}
	}
	for _, what := range slices.Compact(slices.Clone(remove)) {
		i := find(what)
		if i < 0 {
			return nil, nil, fmt.Errorf("%w: %.80q: collector hold list has them", ErrNoHold, what)
		}
		out = slices.Delete(out, i, i+1)
		did("remove", what)
	}
	if len(out) > MaxHolds {
		return nil, nil, fmt.Errorf("%w: %d holds, at most %d are kept: hold days from one to another, or hosts by a pattern", ErrWords, len(out), MaxHolds)
	}
	return out, done, nil
}
