package ship

import (
	"strings"
	"sync/atomic"
	"time"
)

// Condition is an event for which audisp-remote.conf has an action, or the end of one.
type Condition uint8

const (
	// StartupFailure: the first connection of all could not be made.
	StartupFailure Condition = iota + 1
	// NetworkFailure: a connection could not be made, or broke.
	NetworkFailure
	// RemoteEnding: the server said that it stops.
	RemoteEnding
	// DiskLow: the server stored the record but its disk is nearly full.
	DiskLow
	// DiskFull: the server did not store the record: its disk is full.
	DiskFull
	// DiskError: the server could not store the record.
	DiskError
	// GenericWarning: another reply with the warning bit; the record is stored.
	GenericWarning
	// GenericError: another reply with the fatal bit; the record isn't stored.
	GenericError
	// QueueError: the source can't be read. Err says why.
	QueueError
	// Connected: a connection was made. The decision is ignored.
	Connected
	// Recovered: a record was acknowledged plainly, the first since one of the
	// conditions above, and no refused one is left. The decision is ignored.
	Recovered
)

var conditionNames = [...]string{
	StartupFailure: "startup failure", NetworkFailure: "network failure", RemoteEnding: "remote ending",
	DiskLow: "disk low", DiskFull: "disk full", DiskError: "disk error",
	GenericWarning: "generic warning", GenericError: "generic error",
	QueueError: "queue error", Connected: "connected", Recovered: "recovered",
}

// Refuses reports whether a reply with this condition means that the record is not stored.
func (c Condition) Refuses() bool {
	return c == DiskFull || c == DiskError || c == GenericError
}

func (c Condition) String() string { return conditionNames[c] }

// Report tells the Handler what happened.
type Report struct {
	Condition Condition
	Server    string
	Err       error     // NetworkFailure, StartupFailure, QueueError: the cause
	Reply     string    // the name of the reply, in the protocol's words
	Text      string    // the text that the server sent with it
	Index     uint64    // index of the record that the reply is for, 0 when for none
	Waiting   uint64    // records not acknowledged
	Attempts  int       // failures to deliver the first of them, 0 when there is none
	Since     time.Time // of the first of these failures
}

// Decision is what the Handler wants done about a Report.
type Decision uint8

const (
	// Retry keeps the record and tries again, for ever.
	Retry Decision = iota
	// Drop gives up the record that was refused, or for a network failure the first one
	// that is not acknowledged, and counts it. For other conditions it means Retry.
	Drop
	// Suspend keeps the records and closes the connection until Resume.
	Suspend
)

// Metrics counts what a Sender does. Any goroutine may read it at any time.
type Metrics struct {
	Sent      atomic.Uint64 // records, the first time each
	Resent    atomic.Uint64 // records, every further time
	Acked     atomic.Uint64 // records the server stored (without answers: that were sent)
	Skipped   atomic.Uint64 // EOE records and empty lines, never sent
	Truncated atomic.Uint64 // records cut to the longest the transport carries
	Dropped   atomic.Uint64 // records given up by decision
	Bytes     atomic.Uint64 // written to connections
	Writes    atomic.Uint64 // write calls

	Connects        atomic.Uint64 // connections made
	Reconnects      atomic.Uint64 // those after the first
	ConnectFailures atomic.Uint64
	Disconnects     atomic.Uint64 // connections that ended by fault or by the peer
	Failovers       atomic.Uint64 // connections made to another server than the first
	Failbacks       atomic.Uint64 // changes to a server before the present one that was back
	Heartbeats      atomic.Uint64

	DiskLow           atomic.Uint64
	DiskFull          atomic.Uint64
	DiskError         atomic.Uint64
	OtherWarnings     atomic.Uint64
	OtherErrors       atomic.Uint64
	Endings           atomic.Uint64
	UnexpectedReplies atomic.Uint64 // no record in flight has that sequence id

	// Records that a server had acknowledged and has no longer: those that are sent again,
	// and those that are not, for the source does not have them any more either.
	Recalled, Gone atomic.Uint64

	InFlight  atomic.Int64 // records sent and not answered
	Connected atomic.Int64 // 1 while a connection is open
	Server    atomic.Int64 // which server that is, from 0
	Suspended atomic.Int64 // 1 between Suspend and Resume
}

// complaints counts the replies that come with a condition.
func (m *Metrics) complaints(c Condition) *atomic.Uint64 {
	switch c {
	case DiskLow:
		return &m.DiskLow
	case DiskFull:
		return &m.DiskFull
	case DiskError:
		return &m.DiskError
	case GenericWarning:
		return &m.OtherWarnings
	default:
		return &m.OtherErrors
	}
}

// report fills in what is known of the failures so far, logs, and asks the Handler.
func (s *Sender) report(r Report) Decision {
	r.Waiting = s.src.Left()
	s.mu.Lock()
	r.Attempts, r.Since = s.failures, s.since
	if r.Condition < Connected {
		s.trouble = true
	}
	repeats, say := s.note(time.Now(), r)
	s.mu.Unlock()
	if say {
		args := []any{"server", r.Server}
		if r.Err != nil {
			args = append(args, "error", r.Err)
		}
		if r.Reply != "" {
			args = append(args, "reply", r.Reply, "text", r.Text)
		}
		if repeats > 0 {
			args = append(args, "repeats", repeats)
		}
		if r.Condition >= Connected {
			s.log.Info(r.Condition.String(), args...)
		} else {
			s.log.Warn(r.Condition.String(), args...)
		}
	}
	return s.cfg.Handle(r)
}

// A condition that goes on is logged once in sayAgain; after sayOther already when its
// reason, at that server, is another than the one logged last: a certificate that is
// revoked while the network fails must not stay unsaid.
const (
	sayAgain = time.Minute
	sayOther = 5 * time.Second
)

// note decides whether a condition is logged, and returns how often it was not since it
// was last. The caller holds mu.
func (s *Sender) note(now time.Time, r Report) (repeats int, say bool) {
	n := s.noted[r.Condition]
	if n == nil {
		n = &note{said: map[string]string{}}
		s.noted[r.Condition] = n
	}
	why := reason(r)
	since := now.Sub(n.at)
	if !n.at.IsZero() && since < sayAgain && (since < sayOther || n.said[r.Server] == why) {
		n.repeats++
		return 0, false
	}
	if len(n.said) > maxSaid {
		clear(n.said)
	}
	repeats = n.repeats
	n.at, n.repeats, n.said[r.Server] = now, 0, why
	return repeats, true
}

// maxSaid bounds the servers of a note: a reload may name others.
const maxSaid = 64

// reason is why a condition came, without numbers: ports differ each time.
func reason(r Report) string {
	text := r.Reply + " " + r.Text
	if r.Err != nil {
		text = r.Err.Error()
	}
	return strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' {
			return -1
		}
		return c
	}, text[:min(len(text), 1024)])
}
