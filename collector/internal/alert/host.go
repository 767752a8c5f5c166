package alert

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
)

// seenHost is what the evaluator remembers of a host. Times are of its own clock, in ms, but for
// Seen.
type seenHost struct {
	From    int64          `json:"from"`              // known since
	Seen    int64          `json:"seen"`              // when its latest record came, ms since 1970
	At      int64          `json:"at"`                // when that was noticed
	Pause   int64          `json:"pause,omitempty"`   // the longest between two records
	PauseAt int64          `json:"pauseAt,omitempty"` // when that was
	Lost    []ledger.Total `json:"lost,omitempty"`    // that alerts have been told of
	Claims  uint64         `json:"claims,omitempty"`  // mismatched records, likewise
	Twins   uint64         `json:"twins,omitempty"`   // signs of two hosts, likewise, since the collector's start
	Alarms  []uint64       `json:"alarms,omitempty"`
	Rules   string         `json:"rules,omitempty"`   // the first digits of the usual ones
	Other   string         `json:"other,omitempty"`   // of others that it has now
	OtherAt int64          `json:"otherAt,omitempty"` // since when
	Late    int64          `json:"late,omitempty"`    // since when all that comes is late
	LateAt  int64          `json:"lateAt,omitempty"`  // when the latest that was came
	Newest  int64          `json:"newest,omitempty"`  // its time, ms since 1970
	Holds   int64          `json:"holds,omitempty"`   // since when its statements say that it holds records for long
	HoldsAt int64          `json:"holdsAt,omitempty"` // when one said so last
	Said    int64          `json:"said,omitempty"`    // when that was made, ms since 1970
	Gaps    *gapRate       `json:"gaps,omitempty"`

	round uint64 // in which it was there last
}

// gapRate is how many events a host misses an hour.
type gapRate struct {
	Hour  int64   `json:"hour"` // when the present one began
	N     uint64  `json:"n"`
	Usual float64 `json:"usual"`
}

const (
	// rulesDigits is how much of a hash is remembered of each host.
	rulesDigits = 16
	// Of a host without a forwarder the longest pause of pauseFor is its rhythm; while less than
	// learnFor is known of it, it may be silent for a day.
	pauseFor = 8 * day
	learnFor = day
	// stale is how long nothing may have come for what was late to be still late.
	stale = 10 * minute
)

// host looks at one host. mu is held.
func (e *Evaluator) host(v *head.Vitals) {
	if v.Own || v.Last.IsZero() { // the latter is known from an import alone
		return
	}
	name := v.Name
	x := e.hosts[name]
	if x == nil {
		x = &seenHost{From: e.up, At: e.up, Seen: v.Last.UnixMilli()}
		if e.fresh && v.First.Before(e.opened) { // what was before alerts were looked at is not told
			x.Lost, x.Claims, x.Alarms = slices.Clone(v.Missing), v.Mismatched, slices.Clone(v.Alarms[:])
		}
		e.hosts[name] = x
	}
	x.round = e.round
	e.by = originOf(v)
	if name = readable(name); v.Mixed { // with a space, so that no host calls itself that; (names of others) is one of the head's
		name = "(other hosts)"
	}
	if at := v.Last.UnixMilli(); at != x.Seen {
		if pause := e.up - x.At; pause >= x.Pause || e.up-x.PauseAt > pauseFor {
			x.Pause, x.PauseAt = pause, e.up
		}
		x.Seen, x.At = at, e.up
		if e.resume { // it came to the collector before
			x.At -= min(max(0, e.alive-at), saveEvery)
		}
	}
	e.missing(name, x, v)
	e.claims(name, x, v)
	e.twins(name, x, v)
	e.alarms(name, x, v)
	if v.Mixed {
		return
	}
	e.silence(name, x, v)
	e.standing(name, x, v)
	e.rulesOf(name, x, v)
	e.delays(name, x, v)
}

// on reports whether a condition is looked at for a host.
func (e *Evaluator) on(c Condition, host string) bool {
	return !e.rules.Settings[c].Off && !e.rules.ignores(c, host)
}

// limit is a condition's threshold.
func (e *Evaluator) limit(c Condition) int64 { return e.rules.Settings[c].Threshold }

// bad reports a host for which a condition holds.
func (e *Evaluator) bad(c Condition, host, value, format string, args ...any) {
	e.badFor(c, conditions[c].lasts, host, value, format, args...)
}

// lasting is bad for a condition whose threshold is how long it must last.
func (e *Evaluator) lasting(c Condition, host, value, format string, args ...any) {
	e.badFor(c, e.limit(c), host, value, format, args...)
}

// wordsEvery is in which looks the words of alerts that go on are made anew: when a site is cut
// off that is thousands.
const wordsEvery = 4

func (e *Evaluator) badFor(c Condition, lasts int64, host, value, format string, args ...any) {
	if e.round%wordsEvery != 0 {
		if a := e.alerts[conditions[c].name+" host="+strconv.Quote(host)]; a != nil && a.State == Firing {
			a.seen, a.Good = e.round, 0
			return
		}
	}
	e.find(found{cond: c, labels: map[string]string{"host": host}, value: value, summary: fmt.Sprintf(format, args...), lasts: lasts})
}

// silence looks whether a host is heard of.
func (e *Evaluator) silence(name string, x *seenHost, v *head.Vitals) {
	quiet := e.up - x.At
	if v.Shut != 0 {
		if t := e.limit(HostOff); quiet >= t && e.on(HostOff, name) {
			e.bad(HostOff, name, short(quiet), "%s said that it shuts down and has not come back for %s: start it, or take it off the list by `collector hosts --forget %s`", name, short(t), shell(name))
		}
		return
	}
	if !v.Speaks && !v.Live || !e.on(HostSilent, name) {
		return // known from old logs only
	}
	t := e.limit(HostSilent)
	if !v.Speaks {
		switch {
		case x.At-x.From < learnFor:
			t = max(t, day)
		default:
			t = max(t, 3*x.Pause)
		}
	}
	if quiet < t {
		return
	}
	last := v.Last.UTC().Format(time.RFC3339)
	why := "is it up, is its sender running, does it reach the collector?"
	if v.Ended {
		why = "its forwarder said that it ends: start it"
	}
	e.bad(HostSilent, name, short(quiet), "nothing has come from %s since %s: %s", name, last, why)
}

// standing looks at what a host's forwarder, or its kernel, says of auditing there.
func (e *Evaluator) standing(name string, x *seenHost, v *head.Vitals) {
	if v.Shut != 0 {
		return
	}
	if (v.Off != 0 || v.Kernel && !v.Enabled && !v.Ended) && e.on(AuditingOff, name) {
		since := v.Off
		if since == 0 {
			since = v.Said
		}
		e.lasting(AuditingOff, name, "enabled=0", "auditing is switched off on %s since %s: find out who did it (search -n %s -m CONFIG_CHANGE), and switch it on (auditctl -e 1)", name, stamp(since), shell(name))
	}
	if v.Kernel && !v.Registered && !v.Multicast && !v.Ended && e.on(NotRegistered, name) {
		e.lasting(NotRegistered, name, "registered=no", "the forwarder of %s is not its kernel's audit daemon: another program has taken over, and gets the records (auditctl -s says its pid)", name)
	}
}

// missing looks at what is lost.
func (e *Evaluator) missing(name string, x *seenHost, v *head.Vitals) {
	for _, m := range v.Missing {
		n := x.since(m)
		if m.Cause == ledger.SerialGap {
			e.gaps(name, x, v, n)
			continue
		}
		if n == 0 || !e.on(Loss, name) {
			continue
		}
		cause, hop := m.Cause.String(), m.Cause.Hop()
		e.find(found{cond: Loss, labels: map[string]string{"host": name, "cause": cause, "hop": hop}, n: n, told: func(n uint64) (string, string) {
			return fmt.Sprintf("%s lost %d records (%s, at the %s): `collector coverage -n %s --detail` says when", name, n, cause, hop, shell(name)), strconv.FormatUint(n, 10) + " records"
		}})
	}
}

// since returns how much more is missing by a cause than at the last look, and remembers it.
func (x *seenHost) since(m ledger.Total) uint64 {
	for i := range x.Lost {
		l := &x.Lost[i]
		if l.Cause != m.Cause {
			continue
		}
		n := m.N - l.N
		if m.N < l.N { // the host was forgotten, and came again
			n = m.N
		}
		l.N = m.N
		return n
	}
	x.Lost = append(x.Lost, m)
	return m.N
}

// gaps looks at the serials that are missing of a host that says nothing itself.
func (e *Evaluator) gaps(name string, x *seenHost, v *head.Vitals, n uint64) {
	if v.Kernel {
		return // its statements say what is lost
	}
	if x.Gaps == nil {
		if n == 0 {
			return
		}
		x.Gaps = &gapRate{Hour: e.up}
	}
	g := x.Gaps
	for ; e.up-g.Hour >= hour; g.Hour += hour {
		if e.up-g.Hour >= 48*hour {
			*g = gapRate{Hour: e.up}
			break
		}
		g.Usual, g.N = 0.8*g.Usual+0.2*float64(g.N), 0
	}
	g.N += n
	if t := uint64(e.limit(SerialGaps)); n == 0 || g.N < t || float64(g.N) < 3*g.Usual || !e.on(SerialGaps, name) {
		return
	}
	all := g.N
	e.find(found{cond: SerialGaps, labels: map[string]string{"host": name}, n: all, told: func(uint64) (string, string) {
		return fmt.Sprintf("%d events of %s are missing among its kernel's serials in an hour, and %.0f are usual: look for another audit daemon, a rate limit, or records cut out on the way", all, name, g.Usual),
			strconv.FormatUint(all, 10) + " events"
	}})
}

// claims looks at records that claim to be another host's.
func (e *Evaluator) claims(name string, x *seenHost, v *head.Vitals) {
	n := v.Mismatched - x.Claims
	if v.Mismatched < x.Claims {
		n = v.Mismatched
	}
	x.Claims = v.Mismatched
	if n == 0 || !e.on(NameMismatch, name) {
		return
	}
	e.find(found{cond: NameMismatch, labels: map[string]string{"host": name}, n: n, told: func(n uint64) (string, string) {
		return fmt.Sprintf("%d records that are kept under %s claim to be another host's: `collector search --mismatch -n %s` shows them", n, name, shell(name)), strconv.FormatUint(n, 10) + " records"
	}})
}

// twins looks whether two hosts have a name.
func (e *Evaluator) twins(name string, x *seenHost, v *head.Vitals) {
	n := v.Twins - x.Twins
	if v.Twins < x.Twins { // the collector was started again
		n = v.Twins
	}
	x.Twins = v.Twins
	if n == 0 || !e.on(TwoHosts, name) {
		return
	}
	e.find(found{cond: TwoHosts, labels: map[string]string{"host": name}, n: n, told: func(n uint64) (string, string) {
		return fmt.Sprintf("two hosts send as %s (`collector search -m DAEMON_ERR` has their addresses): give a copied machine a name, and a certificate or key, of its own", name), strconv.FormatUint(n, 10) + " signs"
	}})
}

// alarms looks at what hosts say of the collector's checkpoints.
func (e *Evaluator) alarms(name string, x *seenHost, v *head.Vitals) {
	for a := range ledger.NumAlarms {
		was := uint64(0)
		if int(a) < len(x.Alarms) {
			was = x.Alarms[a]
		}
		if v.Alarms[a] == was {
			continue
		}
		x.Alarms = slices.Clone(v.Alarms[:])
		if !e.on(Seal, name) {
			continue
		}
		e.find(found{cond: Seal, labels: map[string]string{"host": name, "op": a.String()}, n: 1, value: a.String(),
			summary: fmt.Sprintf("%s, which keeps this collector's checkpoints, says %s: `collector search -n %s -m DAEMON_ERR` has its words; run `collector verify`", name, a, shell(name))})
	}
}

// rulesOf looks at which rules a host has.
func (e *Evaluator) rulesOf(name string, x *seenHost, v *head.Vitals) {
	if v.Rules == "" {
		return
	}
	rules := oneLine(v.Rules) // a host says what it likes
	hashes, has := e.rules.expected(name)
	expected := slices.Contains(hashes, rules)
	if has && !expected && e.on(RulesUnexpected, name) {
		e.lasting(RulesUnexpected, name, rules, "the rules of %s (%.12s…) are none that alert_rules expects of it: compare `forwarder ctl -l` there with its rule files", name, rules)
	}
	is := strings.ToValidUTF8(rules[:min(len(rules), rulesDigits)], "?")
	switch {
	case x.Rules == "":
		x.Rules = is
	case is == x.Rules:
		x.Other = ""
	case is != x.Other:
		x.Other, x.OtherAt = is, e.up
	case e.up-x.OtherAt >= e.limit(RulesChanged):
		was := x.Rules
		x.Rules, x.Other = is, ""
		if expected || !e.on(RulesChanged, name) {
			return
		}
		e.find(found{cond: RulesChanged, labels: map[string]string{"host": name}, n: 1, value: rules,
			summary: fmt.Sprintf("the rules of %s have changed from %.12s… to %.12s…: `collector search -n %s -m CONFIG_CHANGE` says by whom", name, was, is, shell(name))})
	}
}

// delays looks at clocks, lag and spools.
func (e *Evaluator) delays(name string, x *seenHost, v *head.Vitals) {
	behind := int64(0)
	if v.ClockKnown {
		behind = v.Clock
	}
	if off := max(behind, -behind); off >= e.limit(ClockOff) && e.on(ClockOff, name) {
		way := "behind"
		if behind < 0 {
			way = "ahead of"
		}
		e.bad(ClockOff, name, short(off), "the clock of %s is %s %s the collector's: look at its time service, and at this collector's where many hosts are off", name, short(off), way)
	}
	if e.up-x.At > stale {
		x.Late = 0
		return
	}
	// It lasts from one late arrival to another: what waited while a link was cut comes at once, and a
	// quiet host sends nothing then that would show that it is late no more.
	late := v.LagMs - max(0, behind)
	switch {
	case !v.Host.Live || late < e.limit(Lag):
		x.Late = 0
	case x.Late == 0:
		x.Late, x.LateAt, x.Newest = max(x.At, 1), max(x.At, 1), v.LastEventMs
	case v.LastEventMs != x.Newest: // what is older than that says nothing of lag: a system call that waited
		x.LateAt, x.Newest = x.At, v.LastEventMs
	}
	if x.Late != 0 && x.LateAt-x.Late >= conditions[Lag].lasts && e.on(Lag, name) {
		e.badFor(Lag, 0, name, short(late), "what comes from %s is %s late: its link or its forwarder is too slow, or works off what waited", name, short(late))
	}
	e.spool(name, x, v)
}

// spool looks at what a host holds. A statement that has come says that all before it has come,
// too: so it takes a later one that again says so.
func (e *Evaluator) spool(name string, x *seenHost, v *head.Vitals) {
	wait := v.Said - v.Oldest
	switch {
	case v.Unsent == 0 || v.Oldest <= 0 || wait < e.limit(SpoolFilling):
		x.Holds, x.HoldsAt = 0, 0
		return
	case x.Holds == 0:
		x.Holds, x.HoldsAt = max(e.up, 1), max(e.up, 1)
	case v.Said != x.Said:
		x.HoldsAt = e.up
	}
	x.Said = v.Said
	if x.HoldsAt-x.Holds >= conditions[SpoolFilling].lasts && e.on(SpoolFilling, name) {
		e.badFor(SpoolFilling, 0, name, fmt.Sprintf("%d records, %s", v.Unsent, short(wait)), "%s holds %d records that no collector has acknowledged, the oldest for %s: `forwarder doctor` there says what keeps them", name, v.Unsent, short(wait))
	}
}

// stamp is a time as people read it.
func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// readable is a host's name as alerts have it: what a host calls itself is not text for sure.
func readable(name string) string {
	if utf8.ValidString(name) {
		plain := true
		for _, r := range name {
			plain = plain && unicode.IsGraphic(r)
		}
		if plain {
			return name
		}
	}
	q := strconv.QuoteToASCII(name)
	return q[1 : len(q)-1]
}

// shell is a host's name as a word of a command that people copy: a host calls itself what it likes.
func shell(name string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._:-", r)
	}
	if name != "" && name[0] != '-' && !strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }) {
		return name
	}
	return "'" + strings.ReplaceAll(strings.ReplaceAll(name, "`", "?"), "'", "?") + "'"
}
