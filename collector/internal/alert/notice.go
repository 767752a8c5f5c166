package alert

import "time"

// States of an alert.
const (
	Firing   = "firing"
	Resolved = "resolved"

	pending = "pending" // bad, and not for long enough; nobody is told
)

// Notice is one change of an alert, or the repetition of a firing one.
type Notice struct {
	ID        string // stable for one alert: its condition and labels
	Condition string
	Severity  string
	State     string
	Labels    map[string]string // must not be changed
	Summary   string            // a line: what is wrong, and what to do next
	Value     string            // what crossed the threshold
	Started   time.Time
	Ended     time.Time // zero while it fires
	At        time.Time // when this notice was made
	Flapping  bool
	Test      bool
}

// Group are notices of one condition, severity and state that are told together.
type Group struct {
	Key     string
	Total   int      // how many alerts it is about
	Notices []Notice // the first MaxNotices of them
}

// MaxNotices is how many notices a group has.
const MaxNotices = 100
