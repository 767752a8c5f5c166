package metrics

import "github.com/prometheus/client_golang/prometheus"

// Why a connection is refused or closed: the values of the reason labels.
const (
	RefusedDup   = "dup"   // tcp_max_per_addr
	RefusedPort  = "port"  // tcp_client_ports
	RefusedLimit = "limit" // the overall limit of connections

	ClosedByPeer    = "peer"      // the sender closed it
	ClosedIdle      = "idle"      // tcp_client_max_idle
	ClosedFrame     = "frame"     // a frame was begun and not finished in time
	ClosedMalformed = "malformed" // bytes that are neither a frame nor a line
	ClosedSlow      = "slow"      // does not take its replies
	ClosedEvicted   = "evicted"   // does not take its replies, and room for replies was short
	ClosedStale     = "stale"     // its peer is gone, and a new session came in its place
	ClosedError     = "error"     // a socket error
	ClosedShutdown  = "shutdown"  // the collector stops
)

// Listen is what the accepting side counts.
type Listen struct {
	Open     prometheus.Gauge
	Accepted prometheus.Counter
	Errors   prometheus.Counter
	Refused  *Reasons
	Closed   *Reasons
}

// NewListen registers the accepting side's metrics.
func NewListen(r *Registry) *Listen {
	return &Listen{
		Open:     r.Gauge("auditfleet_collector_connections", "Connections open now."),
		Accepted: r.Counter("auditfleet_collector_accepted_total", "Connections accepted."),
		Errors:   r.Counter("auditfleet_collector_accept_errors_total", "Failures to accept a connection (out of descriptors and the like)."),
		Refused: r.ByReason("auditfleet_collector_refused_total", "Connections refused, by reason.", "reason",
			RefusedDup, RefusedPort, RefusedLimit),
		Closed: r.ByReason("auditfleet_collector_closed_total", "Accepted connections that ended, by reason.", "reason",
			ClosedByPeer, ClosedIdle, ClosedFrame, ClosedMalformed, ClosedSlow, ClosedEvicted, ClosedStale, ClosedError, ClosedShutdown),
	}
}

// Ingest is what the sessions count.
type Ingest struct {
	Records    prometheus.Counter
	Bytes      prometheus.Counter
	Heartbeats prometheus.Counter
	Empty      prometheus.Counter
	Truncated  prometheus.Counter
	InFlight   prometheus.Gauge
	Pauses     prometheus.Counter
	Waits      prometheus.Counter
	Evicted    prometheus.Counter
	AckSeconds prometheus.Histogram
	Malformed  *Reasons
	Rejected   *Reasons
}

// Causes of a malformed stream, and of a record that was not stored.
const (
	MalformedVersion = "version"
	MalformedLength  = "length"
	MalformedLine    = "line"
	MalformedType    = "type"

	RejectedFull      = "diskfull"
	RejectedError     = "diskerror"
	RejectedSuspended = "suspended" // a DISKERROR, too
)

// NewIngest registers the sessions' metrics.
func NewIngest(r *Registry) *Ingest {
	return &Ingest{
		Records:    r.Counter("auditfleet_collector_records_total", "Records received and stored."),
		Bytes:      r.Counter("auditfleet_collector_bytes_total", "Bytes of raw text received and stored."),
		Heartbeats: r.Counter("auditfleet_collector_heartbeats_total", "Heartbeats answered."),
		Empty:      r.Counter("auditfleet_collector_empty_records_total", "Messages and lines without any text: acknowledged, nothing to store."),
		Truncated:  r.Counter("auditfleet_collector_truncated_total", "Connections that ended within a frame or a line; the sender has had no acknowledgement for it."),
		InFlight:   r.Gauge("auditfleet_collector_inflight_bytes", "Bytes received and not yet stored."),
		Pauses:     r.Counter("auditfleet_collector_inflight_pauses_total", "Times a connection was not read on because its max_in_flight was reached."),
		Waits:      r.Counter("auditfleet_collector_inflight_waits_total", "Times a connection waited to be read because max_in_flight_total was reached."),
		Evicted:    r.Counter("auditfleet_collector_reply_evictions_total", "Connections closed because they did not take their replies while all that waited were more than may."),
		AckSeconds: r.Histogram("auditfleet_collector_ack_seconds", "From a burst's receipt to its acknowledgement.", Seconds()),
		Malformed: r.ByReason("auditfleet_collector_malformed_total", "Connections closed for what they sent, by cause.", "cause",
			MalformedVersion, MalformedLength, MalformedLine, MalformedType),
		Rejected: r.ByReason("auditfleet_collector_rejected_records_total", "Records answered with an error instead of an acknowledgement, by reply.", "reply",
			RejectedFull, RejectedError, RejectedSuspended),
	}
}

// Drops is what retention counts.
type Drops struct{ Days, Events *Reasons }

// NewDrops registers retention's metrics, by the reasons there are.
func NewDrops(r *Registry, reasons ...string) *Drops {
	return &Drops{
		Days:   r.ByReason("auditfleet_collector_dropped_days_total", "Days of events dropped, by reason.", "reason", reasons...),
		Events: r.ByReason("auditfleet_collector_dropped_events_total", "Events dropped with their day, by reason.", "reason", reasons...),
	}
}
