package alert

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/auditfleet/auditfleet/collector/internal/head"
)

// origin says who can cause an alert: the collector itself (""), a host with a proved name, or
// whoever sends in clear text from an address.
type origin string

const (
	byProved  origin = "proved"
	byUnknown origin = "?" // no address is known
)

// originOf is the origin of alerts about a host.
func originOf(v *head.Vitals) origin {
	switch {
	case !v.Verified.IsZero():
		return byProved
	case len(v.Addrs) > 0:
		return origin(v.Addrs[0].String())
	}
	return byUnknown
}

// count counts the alerts of each origin, which other methods go by. mu is held.
func (e *Evaluator) count() {
	e.counts = map[origin]int{}
	for _, a := range e.alerts {
		e.counts[a.By]++
	}
}

// room makes room for an alert of the present origin; false when there is none. mu is held.
func (e *Evaluator) room() bool {
	full := func() bool {
		switch e.by {
		case "":
			return false
		case byProved:
			return e.counts[byProved] >= maxAlerts
		}
		return e.counts[e.by] >= maxOfAddress || len(e.alerts)-e.counts[byProved]-e.counts[""] >= maxAlerts
	}
	if !full() {
		return true
	}
	if e.swept { // in this round there was nothing to forget, and it takes a look at all
		return false
	}
	e.swept = true
	maps.DeleteFunc(e.alerts, func(_ string, a *alert) bool { return a.over() })
	e.count()
	return !full()
}

// byTurns sorts alerts so that nobody who causes many hides those of others, where only the first
// are told: the collector's own and those of proved names come first, and then one of each
// address by turns.
func byTurns(list []*alert) {
	slices.SortFunc(list, func(x, y *alert) int { return strings.Compare(x.id, y.id) })
	turn, next := make(map[*alert]int, len(list)), map[origin]int{}
	for _, a := range list {
		if a.By != "" && a.By != byProved {
			next[a.By]++
			turn[a] = next[a.By]
		}
	}
	slices.SortStableFunc(list, func(x, y *alert) int { return cmp.Compare(turn[x], turn[y]) })
}

// oneLine is what a host or another machine says, as alerts have it: text of one line, without
// anything that a terminal obeys.
func oneLine(s string) string {
	odd := func(r rune) bool { return !unicode.IsGraphic(r) || r == unicode.ReplacementChar }
	if !strings.ContainsFunc(s, odd) { // nearly always; bytes that are no UTF-8 are ReplacementChar
		return s
	}
	return strings.Map(func(r rune) rune {
		if odd(r) {
			return '?'
		}
		return r
	}, s)
}
