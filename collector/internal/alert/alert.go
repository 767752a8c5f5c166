package alert

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
)

const (
	// maxAlerts is how many alerts there may be about hosts with a proved name, and as many about
	// others; what more is wrong is counted only. It is a host silent of each that a collector tells
	// apart by default. Alerts about the collector itself always have room.
	maxAlerts = 20_000
	// maxOfAddress is how many of them may be about hosts that send from one address: whoever
	// may send in clear text may invent hosts, and must not take the room of those of others.
	maxOfAddress = maxAlerts / 4
	// keepResolved and maxResolved are how long resolved alerts are listed, and how many.
	keepResolved = 24 * hour
	maxResolved  = 1000
	// An alert that has fired before within flapWindow is over only once it has been good for
	// flapSecond; from the third time on, for flapMore.
	flapWindow = hour
	flapSecond = 5 * minute
	flapMore   = 30 * minute
)

// alert is one thing that is wrong, or was. Times are of the evaluator's own clock, in ms, but
// for Started and Ended, which are what people see.
type alert struct {
	Condition string            `json:"condition"`
	Labels    map[string]string `json:"labels,omitempty"`
	State     string            `json:"state"`
	Severity  Severity          `json:"severity"`
	Summary   string            `json:"summary,omitempty"`
	Value     string            `json:"value,omitempty"`
	Started   int64             `json:"started,omitempty"` // ms since 1970
	Ended     int64             `json:"ended,omitempty"`
	N         uint64            `json:"n,omitempty"`     // what has happened, of a condition that counts
	Since     int64             `json:"since,omitempty"` // it is bad
	Good      int64             `json:"good,omitempty"`  // since when it is good again, while it fires; 0: it is not
	Changed   int64             `json:"changed,omitempty"`
	ToldStart int64             `json:"told,omitempty"`     // Started of the firing that sinks have
	ToldEnd   bool              `json:"told_end,omitempty"` // and that it ended
	ToldAt    int64             `json:"told_at,omitempty"`  // when they had it last
	Fires     int               `json:"fires,omitempty"`    // how often it began since FiresFrom
	FiresFrom int64             `json:"fires_from,omitempty"`
	By        origin            `json:"by,omitempty"`

	cond Condition
	id   string
	seen uint64 // the evaluation that found it bad last
	// unsynced: what was told last is not on the sinks' disks for sure; the file has was instead.
	unsynced bool
	was      told
}

// told is what sinks have of an alert: see ToldStart, ToldEnd and ToldAt.
type told struct {
	start int64
	end   bool
	at    int64
}

// over reports whether nothing more is to be told of an alert.
func (a *alert) over() bool {
	return a.State == Resolved && (a.Started == 0 || a.Started == a.ToldStart && a.ToldEnd)
}

// idOf is what tells alerts apart.
func idOf(cond string, labels map[string]string) string {
	var b strings.Builder
	b.WriteString(cond)
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&b, " %s=%q", k, labels[k])
	}
	return b.String()
}

// found is what is wrong now.
type found struct {
	cond           Condition
	labels         map[string]string
	severity       Severity // "": as is set
	summary, value string
	n              uint64 // how often it has happened since the last look, of a condition that counts
	lasts          int64  // how long it must last yet, ms
	// told makes the summary of a number, of a condition that counts.
	told func(n uint64) (summary, value string)
}

// find takes what is wrong. mu is held.
func (e *Evaluator) find(f found) {
	f.summary, f.value = oneLine(f.summary), oneLine(f.value)
	set := e.rules.Settings[f.cond]
	if f.severity == "" {
		f.severity = set.Severity
	}
	id := idOf(conditions[f.cond].name, f.labels)
	a := e.alerts[id]
	if a == nil {
		if !e.room() {
			e.beyond, e.beyondBy = e.beyond+1, e.by
			return
		}
		a = &alert{Condition: conditions[f.cond].name, Labels: f.labels, State: Resolved, ToldEnd: true, cond: f.cond, id: id}
		e.alerts[id] = a
		e.counts[e.by]++
	}
	a.By = e.by
	if a.State == Resolved {
		a.State, a.Since, a.N, a.Good = pending, e.up, 0, 0
	}
	a.seen, a.Good = e.round, 0
	if f.n > 0 {
		a.N = ledger.AddUp(a.N, f.n) // a host can claim any number
		e.dirty = true
		a.Since = e.up // the last time that it happened
	}
	a.Severity, a.Summary, a.Value = f.severity, f.summary, f.value
	if f.told != nil {
		a.Summary, a.Value = f.told(a.N)
	}
	switch {
	case a.State == Firing:
	case conditions[f.cond].unit == count && a.N >= uint64(set.Threshold):
		e.fire(a)
	case conditions[f.cond].unit != count && e.up-a.Since >= f.lasts:
		e.fire(a)
	}
}

// fire has an alert begin to fire. mu is held.
func (e *Evaluator) fire(a *alert) {
	if e.up-a.FiresFrom > flapWindow {
		a.FiresFrom, a.Fires = e.up, 0
	}
	a.Fires++
	a.State, a.Started, a.Ended, a.Changed = Firing, e.now.UnixMilli(), 0, e.up
	if a.Started <= a.ToldStart { // the clock was set back: it is another firing all the same
		a.Started = a.ToldStart + 1
	}
	e.change(a)
}

// settle ends what was not found in this round. mu is held.
func (e *Evaluator) settle() {
	for id, a := range e.alerts {
		switch a.State {
		case pending:
			last := int64(0)
			if conditions[a.cond].unit == count || conditions[a.cond].once {
				last = e.rules.Hold.Milliseconds()
			}
			if a.seen == e.round || e.up-a.Since < last {
				continue
			}
			if a.Ended != 0 { // it had fired before
				a.State = Resolved
				continue
			}
			delete(e.alerts, id)
		case Firing:
			e.end(a)
		case Resolved:
			if e.up-a.Changed > keepResolved && a.over() {
				delete(e.alerts, id)
				e.dirty = true
			}
		}
	}
}

// end resolves an alert once it has been good for long enough. mu is held.
func (e *Evaluator) end(a *alert) {
	if e.rules.Settings[a.cond].Off || e.rules.ignores(a.cond, a.Labels["host"]) {
		a.Summary = "no longer watched: " + a.Summary
		e.resolve(a)
		return
	}
	if a.seen == e.round {
		return
	}
	if a.Good == 0 {
		a.Good = e.up
	}
	wait := int64(0)
	switch {
	case a.Fires == 2:
		wait = flapSecond
	case a.Fires > 2:
		wait = flapMore
	}
	if conditions[a.cond].once {
		wait = max(wait, e.rules.Hold.Milliseconds())
	}
	if e.up-a.Good >= wait {
		e.resolve(a)
	}
}

func (e *Evaluator) resolve(a *alert) {
	a.State, a.Ended, a.Changed, a.Good = Resolved, e.now.UnixMilli(), e.up, 0
	e.change(a)
}

// change notes that an alert has begun or ended. mu is held.
func (e *Evaluator) change(a *alert) {
	e.dirty = true
	e.changed = append(e.changed, a)
}

// notice is what is told of an alert. mu is held.
func (e *Evaluator) notice(a *alert, state string) Notice {
	n := Notice{
		ID: a.id, Condition: a.Condition, Severity: string(a.Severity), State: state, Labels: a.Labels, Summary: a.Summary, Value: a.Value,
		Started: time.UnixMilli(a.Started), At: e.now, Flapping: a.Fires > 2,
	}
	if n.Flapping {
		n.Summary += " (it comes and goes)"
	}
	if state == Resolved {
		n.Ended = time.UnixMilli(a.Ended)
	}
	return n
}

// thinResolved keeps the latest maxResolved of those that are over. mu is held.
func (e *Evaluator) thinResolved() {
	var over []*alert
	for _, a := range e.alerts {
		if a.over() {
			over = append(over, a)
		}
	}
	if len(over) <= maxResolved {
		return
	}
	slices.SortFunc(over, func(x, y *alert) int { return int(y.Changed - x.Changed) })
	for _, a := range over[maxResolved:] {
		delete(e.alerts, a.id)
	}
	e.dirty = true
}
