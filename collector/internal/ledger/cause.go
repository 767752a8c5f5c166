package ledger

// State is what is known of a time.
type State uint8

// What can be known of a time, from good to bad.
const (
	Complete State = iota // all that the host's kernel made is stored
	Pending               // the host still holds some of it
	Unknown               // nobody says, or something happened that hides what was lost
	Lost                  // records are missing
)

// String is the state's name, as answers have it.
func (s State) String() string {
	switch s {
	case Complete:
		return "complete"
	case Pending:
		return "pending"
	case Lost:
		return "lost"
	}
	return "unknown"
}

// Cause says why a time is not complete. The numbers are stored: they keep their meaning.
type Cause uint8

// Causes of what a host says that it lost have the names of op=lost-records.
const (
	OtherLoss     Cause = 1 // one that this version does not know
	Kernel        Cause = 2
	BeforeStart   Cause = 3
	Overrun       Cause = 4
	Queue         Cause = 5
	Truncated     Cause = 6
	Malformed     Cause = 7
	SpoolFull     Cause = 8
	SpoolError    Cause = 9
	SpoolDamaged  Cause = 10
	GivenUp       Cause = 11
	NotReceived   Cause = 12 // handed on by the host, and not stored here
	SerialGap     Cause = 13 // events that the kernel numbered and that never came
	AuditingOff   Cause = 14
	NotRegistered Cause = 15 // another program was the audit daemon, or none
	Died          Cause = 16 // the forwarder ended without a word
	Off           Cause = 17 // the host was shut down: there was nothing to record
	Silent        Cause = 18 // no word since
	Unsaid        Cause = 19 // nothing says what happened then
	Retention     Cause = 20 // days that were dropped
	Stopped       Cause = 21 // the forwarder was stopped, and nobody else kept the records

	OtherCollector Cause = 22 // another collector acknowledged it: it is there, if anywhere
	Damaged        Cause = 23 // stored here, and not readable any more

	// What happened and lost nothing by itself; see Note.
	Resent       Cause = 24 // sent again, and stored once
	Refused      Cause = 25 // connections that were refused at our door
	DiskFull     Cause = 26 // records that were refused: their sender keeps them
	Suspended    Cause = 27
	DiskError    Cause = 28
	CutShort     Cause = 29 // events that a limit ended early: what came later is another event
	Disconnected Cause = 30

	ClassRetention Cause = 31 // events of a key, which are kept for a time of their own, were dropped
	// CollectorLost is of no account: several.WithLoss says so of a collector that is gone with what it had not stored.
	CollectorLost Cause = 32
	lastCause           = CollectorLost
)

// causes has each cause's name, the hop of a record's way at which it is, and what it makes of
// a time.
var causes = [lastCause + 1]struct {
	name, hop string
	state     State
	note      bool
}{
	OtherLoss:     {"other", "host", Lost, false},
	Kernel:        {"kernel", "kernel", Lost, false},
	BeforeStart:   {"before-start", "kernel", Lost, false},
	Overrun:       {"overrun", "receive-buffer", Lost, false},
	Queue:         {"queue", "queue", Lost, false},
	Truncated:     {"truncated", "kernel", Lost, false},
	Malformed:     {"malformed", "kernel", Lost, false},
	SpoolFull:     {"spool-full", "spool", Lost, false},
	SpoolError:    {"spool-error", "spool", Lost, false},
	SpoolDamaged:  {"spool-damaged", "spool", Lost, false},
	GivenUp:       {"given-up", "transport", Lost, false},
	NotReceived:   {"not-received", "transport", Lost, false},
	SerialGap:     {"serial-gap", "host", Lost, false},
	AuditingOff:   {"auditing-off", "kernel", Unknown, false},
	NotRegistered: {"not-registered", "kernel", Unknown, false},
	Died:          {"died", "host", Unknown, false},
	Off:           {"off", "host", Complete, false},
	Silent:        {"silent", "host", Unknown, false},
	Unsaid:        {"nothing-said", "host", Unknown, false},
	Retention:     {"retention", "collector", Lost, false},
	Stopped:       {"stopped", "host", Unknown, false},

	OtherCollector: {"other-collector", "transport", Unknown, false},
	Damaged:        {"damaged", "collector", Lost, false},
	Resent:         {"resent", "transport", Complete, true},
	Refused:        {"connection-refused", "collector", Complete, true},
	DiskFull:       {"disk-full", "collector", Complete, true},
	Suspended:      {"suspended", "collector", Complete, true},
	DiskError:      {"disk-error", "collector", Complete, true},
	CutShort:       {"cut-short", "collector", Complete, true},
	Disconnected:   {"disconnected", "transport", Complete, true},
	ClassRetention: {"retention-key", "collector", Lost, false},
	CollectorLost:  {"collector-lost", "collector", Lost, false},
}

// String is the cause's name.
func (c Cause) String() string {
	if int(c) >= len(causes) || causes[c].name == "" {
		return "other"
	}
	return causes[c].name
}

// Hop is where on a record's way the cause is.
func (c Cause) Hop() string {
	if int(c) >= len(causes) {
		return "host"
	}
	return causes[c].hop
}

// State is what the cause makes of a time.
func (c Cause) State() State {
	if int(c) >= len(causes) {
		return Unknown
	}
	return causes[c].state
}

// Note reports whether the cause says what happened and nothing of what is there: a time of
// which nothing else is known stays unknown.
func (c Cause) Note() bool { return int(c) < len(causes) && causes[c].note }

// Drop reports whether records are missing that were stored and then dropped, as retention has it.
func (c Cause) Drop() bool { return c == Retention || c == ClassRetention }

// lossCause is the cause that a host names in op=lost-records.
func lossCause(name []byte) Cause {
	for c := Kernel; c <= GivenUp; c++ {
		if string(name) == causes[c].name {
			return c
		}
	}
	return OtherLoss
}
