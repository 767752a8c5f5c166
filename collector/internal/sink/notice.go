// Package sink takes notices of alerts to where people and programs see them: Alertmanager,
// webhooks, mail, programs, syslog. Each sink is configured by a file of its own in one
// folder, in the grammar of the stock files. The server and the part that evaluates alerts
// import it; it imports pkg only. WEBHOOK.md describes the JSON, queue/FORMAT.md the files.
//
// Deliver hands notices to each sink's own queue and never waits. Each sink has a goroutine
// that takes them from there, in order for each alert, until the other end has accepted
// them: at least once, under a key by which it knows a repetition. So a sink that hangs
// delays no other one.
package sink

import "time"

// The severities, from the least.
const (
	Info     = "info"
	Warning  = "warning"
	Critical = "critical"
)

// The states of an alert.
const (
	Firing   = "firing"
	Resolved = "resolved"
)

// Notice says that an alert began to fire, still fires, or is over.
type Notice struct {
	// ID is the same in all notices of an alert: what fires again later has it again.
	ID        string            `json:"id"`
	Condition string            `json:"condition"` // host-silent, loss …
	Severity  string            `json:"severity"`
	State     string            `json:"state"`
	Labels    map[string]string `json:"labels,omitempty"` // host, cause, hop …
	Summary   string            `json:"summary"`          // one line: what is wrong, what to do next
	Value     string            `json:"value,omitempty"`  // what crossed the threshold, with its unit
	Started   time.Time         `json:"started"`
	Ended     time.Time         `json:"ended,omitzero"` // zero while it fires
	At        time.Time         `json:"at"`             // when the notice was made
	Test      bool              `json:"test,omitempty"` // of collector alerts test
}

// Group has notices of one condition, severity and state.
type Group struct {
	Key     string
	Notices []Notice
	// Total is how many alerts of the group changed, which may be more than there are
	// notices; 0: as many.
	Total int
}

// waiting is what a queue holds of a notice.
type waiting struct {
	Notice Notice `json:"notice"`
	More   int    `json:"more,omitempty"` // alerts of its group beyond those with a notice
}

// rank orders severities; one that is not known is the gravest.
func rank(severity string) int {
	switch severity {
	case Info:
		return 0
	case Warning:
		return 1
	}
	return 2
}
