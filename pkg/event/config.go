package event

import "time"

// Config limits how long an Assembler waits for records and how much it holds. The zero
// value stands for the defaults.
type Config struct {
	// Timeout is how far the record times of a node must pass an event's time, and the node's
	// time at the event's last record, before the event is considered complete
	// (end_of_event_timeout of auditd.conf). For Tick, it is
	// how long an event may remain without a further record, by the wall clock. The
	// default is 2 s.
	Timeout time.Duration
	// MaxEvents and MaxBytes (bytes of memory, see Bytes) limit the events that are open
	// at one time; above them, the event that has gone longest without a record is
	// emitted. The defaults are 16,384 and 64 MiB.
	MaxEvents int
	MaxBytes  int
	// MaxAge is how long an event may receive further records, by the clock that is
	// passed to Add; 0 sets no limit. Records that arrive later form another event.
	MaxAge time.Duration
	// Apart says that records of a daemon (DAEMON_*) show no event to be late: a forwarder writes its own at any
	// moment, also between two records of an event that it read seconds after its time. In logs they do, as the stock
	// tools have it.
	Apart bool
	// Pool, if not nil, supplies the events; see Pool.Put.
	Pool *Pool
}

const (
	defaultTimeout   = 2 * time.Second
	defaultMaxEvents = 16384
	defaultMaxBytes  = 64 << 20
)

// Stats counts the events that an Assembler emitted before they were complete or late, by
// reason.
type Stats struct {
	Evicted  uint64 // because of MaxEvents
	Oversize uint64 // because of MaxBytes
	Aged     uint64 // because of MaxAge
}
