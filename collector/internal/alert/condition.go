package alert

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/nearest"
)

// Condition is a thing that can be wrong.
type Condition int

// The conditions.
const (
	HostSilent Condition = iota
	HostOff
	Loss
	SerialGaps
	AuditingOff
	NotRegistered
	RulesChanged
	RulesUnexpected
	NameMismatch
	TwoHosts
	Lag
	ClockOff
	SpoolFilling
	RetentionNear
	CollectorSpace
	CollectorError
	Seal
	NumConditions
)

// Severity is how bad it is.
type Severity string

// The severities.
const (
	Info     Severity = "info"
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

var severities = []string{string(Info), string(Warning), string(Critical)}

// unit says what a threshold is.
type unit int

const (
	span  unit = iota // a time
	count             // a number
	days
	none
)

// about describes a condition.
type about struct {
	name      string
	unit      unit
	threshold int64 // the default: ms, a number, days
	off       bool  // by default
	severity  Severity
	// once: it is noticed as something that has happened, and the alert ends when it has not
	// happened again for alert_hold.
	once bool
	// lasts is how long it must last beside the threshold, in ms.
	lasts int64
	doc   string // of the key
}

var conditions = [NumConditions]about{
	HostSilent: {name: "host-silent", unit: span, threshold: 15 * minute, severity: Warning,
		doc: "Nothing came from a host for so long.\n" +
			"Hosts with a forwarder say every minute that they live; of others it must also be three times their longest pause of a week, or a day while less than a day is known.\n" +
			"A host that has said that it shuts down (SYSTEM_SHUTDOWN) is not silent."},
	HostOff: {name: "host-off", unit: span, threshold: 24 * hour, off: true, severity: Info,
		doc: "A host has said that it shuts down, and has not come back for so long."},
	Loss: {name: "loss", unit: count, threshold: 1, severity: Critical, once: true,
		doc: "So many records of a host are lost, by one cause: as it says itself, or as its statements show."},
	SerialGaps: {name: "serial-gaps", unit: count, threshold: 100, severity: Warning, once: true,
		doc: "So many events of a host without a forwarder are missing among the kernel's serials in an hour, and three times as many as usual."},
	AuditingOff: {name: "auditing-off", unit: span, threshold: minute, severity: Critical,
		doc: "Auditing is switched off on a host for so long."},
	NotRegistered: {name: "not-registered", unit: span, threshold: 2 * minute, severity: Critical,
		doc: "A host's forwarder is not the kernel's audit daemon for so long: another program is, or none."},
	RulesChanged: {name: "rules-changed", unit: span, threshold: 5 * minute, severity: Warning, once: true,
		doc: "A host has had other rules than before for so long (by hash, as forwarder doctor --all prints it)."},
	RulesUnexpected: {name: "rules-unexpected", unit: span, threshold: 5 * minute, severity: Critical,
		doc: "A host has had rules for so long that alert_rules does not expect of it."},
	NameMismatch: {name: "name-mismatch", unit: count, threshold: 1, severity: Warning, once: true,
		doc: "So many records claim to be another host's than the one that they are kept under (search --mismatch)."},
	TwoHosts: {name: "two-hosts", unit: count, threshold: 1, severity: Warning, once: true,
		doc: "So many signs that two hosts have one name: a copied certificate or key, or in clear text one name from two addresses by turns, thrice within minutes."},
	Lag: {name: "lag", unit: span, threshold: 5 * minute, severity: Warning, lasts: 5 * minute,
		doc: "What comes from a host is that late, again and again for five minutes."},
	ClockOff: {name: "clock-off", unit: span, threshold: 30 * second, severity: Warning,
		doc: "A host's clock is that far from the collector's, as three statements of its forwarder show that did not wait."},
	SpoolFilling: {name: "spool-filling", unit: span, threshold: 10 * minute, severity: Warning, lasts: 2 * minute,
		doc: "A host's forwarder holds records for so long that no collector has acknowledged."},
	RetentionNear: {name: "retention-near", unit: days, threshold: 0, severity: Warning,
		doc: "Within a week a day will be dropped that is younger than so many days, for max_bytes or want of space; 0 is max_days."},
	CollectorSpace: {name: "collector-space", unit: none, severity: Critical,
		doc: "The collector's disk is low (space_left), very low or full, or storing is suspended; low is a warning at most."},
	CollectorError: {name: "collector-error", unit: none, severity: Critical,
		doc: "The collector's journal, store, disk or clock has a fault, its own records are dropped, or a sink does not deliver."},
	Seal: {name: "seal", unit: none, severity: Critical, once: true,
		doc: "The store's sealed history was changed, forked or put back, as the collector or a host that keeps its checkpoints finds."},
}

const (
	second int64 = 1000
	minute       = 60 * second
	hour         = 60 * minute
	day          = 24 * hour
)

// String is the condition's name.
func (c Condition) String() string { return conditions[c].name }

// Doc says what the condition is about, one sentence a line.
func (c Condition) Doc() string { return conditions[c].doc }

// ByName returns the condition that is called so.
func ByName(name string) (Condition, error) {
	for c := range NumConditions {
		if conditions[c].name == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("%.80q is no condition%s (they are %s)", name, nearest.Hint(name, Names()), strings.Join(Names(), ", "))
}

// Names are the names of the conditions.
func Names() (names []string) {
	for c := range NumConditions {
		names = append(names, conditions[c].name)
	}
	return names
}

// Labels are the labels that an alert may have.
func Labels() []string { return []string{"host", "cause", "hop", "op", "kind"} }

// Setting is when a condition fires, and how bad that is.
type Setting struct {
	Off       bool
	Threshold int64 // in milliseconds, records, events or days
	Severity  Severity
}

// Default is the condition's setting when nothing is said.
func (c Condition) Default() Setting {
	a := &conditions[c]
	return Setting{a.off, a.threshold, a.severity}
}

// ParseSetting reads "off", or a threshold, a severity, or both. What is left out is the
// default.
func (c Condition) ParseSetting(text string) (Setting, error) {
	s := c.Default()
	words := strings.Fields(text)
	if len(words) == 1 && strings.EqualFold(words[0], "off") {
		s.Off = true
		return s, nil
	}
	s.Off = false
	var threshold, severity bool
	for _, w := range words {
		w := strings.ToLower(w)
		switch {
		case slices.Contains(severities, w):
			if severity {
				return s, errors.New("two severities: leave one of them out")
			}
			severity, s.Severity = true, Severity(w)
		case w == "off":
			return s, errors.New("off stands alone")
		case threshold:
			return s, fmt.Errorf("%.40q: want %s", text, c.wants())
		default:
			n, err := c.parseThreshold(w)
			if err != nil {
				return s, err
			}
			threshold, s.Threshold = true, n
		}
	}
	if len(words) == 0 {
		return s, fmt.Errorf("want %s", c.wants())
	}
	return s, nil
}

// wants says what a setting may be.
func (c Condition) wants() string {
	w := map[unit]string{span: "a time such as 15m", count: "a number", days: "a number of days", none: ""}[conditions[c].unit]
	if w != "" {
		w += ", "
	}
	return w + "info, warning or critical, or off"
}

// Range says what a setting may be, for manual pages.
func (c Condition) Range() string { return c.wants() }

func (c Condition) parseThreshold(w string) (int64, error) {
	switch conditions[c].unit {
	case span:
		d, err := conf.ParseDuration(w)
		switch {
		case err != nil:
			return 0, fmt.Errorf("%.40q: want %s", w, c.wants())
		case d < time.Second || d > 10*365*24*time.Hour:
			return 0, fmt.Errorf("%s: want a time of 1s to 10 years", w)
		}
		return d.Milliseconds(), nil
	case count, days:
		n, err := strconv.ParseUint(w, 10, 31)
		switch {
		case err != nil:
			return 0, fmt.Errorf("%.40q: want %s", w, c.wants())
		case n == 0 && conditions[c].unit == count:
			return 0, errors.New("0: want at least 1, or off")
		}
		return int64(n), nil
	}
	return 0, fmt.Errorf("%.40q: want %s", w, c.wants())
}

// Threshold is a setting's threshold in words; "" where there is none.
func (c Condition) Threshold(s Setting) string {
	switch conditions[c].unit {
	case span:
		return short(s.Threshold)
	case count, days:
		return strconv.FormatInt(s.Threshold, 10)
	}
	return ""
}

// Format writes a setting as ParseSetting reads it.
func (c Condition) Format(s Setting) string {
	if s.Off {
		return "off"
	}
	return strings.TrimSpace(c.Threshold(s) + " " + string(s.Severity))
}

// short writes a time as 15m, 1h30m or 3s.
func short(ms int64) string {
	d := (time.Duration(ms) * time.Millisecond).Round(time.Second)
	if ms < second {
		return strconv.FormatInt(ms, 10) + "ms"
	}
	text, left := "", int64(d/time.Second)
	for _, u := range []struct {
		of   int64
		name string
	}{{3600, "h"}, {60, "m"}, {1, "s"}} {
		if n := left / u.of; n > 0 {
			text += strconv.FormatInt(n, 10) + u.name
			left %= u.of
		}
	}
	return text
}
