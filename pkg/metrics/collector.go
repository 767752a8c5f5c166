package metrics

import "github.com/prometheus/client_golang/prometheus"

// Why a connection is refused or closed: the values of the reason labels.
const (
	RefusedDup       = "dup"       // tcp_max_per_addr
	RefusedPort      = "port"      // tcp_client_ports
	RefusedUntrusted = "untrusted" // trusted_senders
	RefusedProxy     = "proxy"     // proxy_protocol_from, tls_proxy_protocol_from: no PROXY header, or a wrong one
	RefusedLimit     = "limit"     // the overall limit of connections

	ClosedByPeer    = "peer"      // the sender closed it
	ClosedIdle      = "idle"      // tcp_client_max_idle; by gRPC: no call was made
	ClosedFrame     = "frame"     // a frame was begun and not finished in time
	ClosedMalformed = "malformed" // bytes that are neither a frame nor a line
	ClosedSlow      = "slow"      // does not take its replies
	ClosedEvicted   = "evicted"   // does not take its replies, and room for replies was short
	ClosedStale     = "stale"     // its peer is gone, and a new session came in its place
	ClosedRevoked   = "revoked"   // its peer is no longer allowed
	ClosedError     = "error"     // a socket error
	ClosedShutdown  = "shutdown"  // the collector stops
	ClosedHandshake = "handshake" // a TLS handshake that failed, or was not over in time
)

// Listen holds the counters of the part that accepts connections.
type Listen struct {
	Open     prometheus.Gauge   `metric:"connections" help:"Connections open now."`
	Accepted prometheus.Counter `metric:"accepted_total" help:"Connections accepted."`
	Errors   prometheus.Counter `metric:"accept_errors_total" help:"Failures to accept a connection (out of descriptors and the like)."`
	Refused  *Reasons           `metric:"refused_total" label:"reason" help:"Connections refused, by reason."`
	Closed   *Reasons           `metric:"closed_total" label:"reason" help:"Accepted connections that ended, by reason."`
}

// NewListen registers the metrics of the part that accepts connections.
func NewListen(r *Registry) *Listen {
	m := count[Listen](r, collector)
	m.Refused.announce(RefusedDup, RefusedPort, RefusedLimit, RefusedUntrusted, RefusedProxy)
	m.Closed.announce(ClosedByPeer, ClosedIdle, ClosedFrame, ClosedMalformed, ClosedSlow, ClosedEvicted, ClosedStale, ClosedRevoked, ClosedError, ClosedShutdown)
	return m
}

// GRPC holds the counters of the part that receives by gRPC.
type GRPC struct {
	Open       prometheus.Gauge   `metric:"grpc_connections" help:"Connections by gRPC open now."`
	Streams    prometheus.Gauge   `metric:"grpc_streams" help:"Forwarders that send by gRPC now."`
	Accepted   prometheus.Counter `metric:"grpc_accepted_total" help:"Connections for gRPC accepted."`
	Errors     prometheus.Counter `metric:"grpc_accept_errors_total" help:"Failures to accept a connection for gRPC (out of descriptors and the like)."`
	Refused    *Reasons           `metric:"grpc_refused_total" label:"reason" help:"Connections for gRPC refused, and streams of a name that has too many, by reason."`
	Handshakes prometheus.Counter `metric:"grpc_handshakes_total" help:"TLS handshakes in which a client proved its name."`
	Failed     *Reasons           `metric:"grpc_unverified_total" label:"reason" help:"Clients of gRPC that were refused for what their certificate says, or has not, by reason."`
	Closed     *Reasons           `metric:"grpc_closed_total" label:"reason" help:"Connections by gRPC that ended, by reason."`
	Batches    prometheus.Counter `metric:"grpc_batches_total" help:"Batches received by gRPC."`
	WireBytes  prometheus.Counter `metric:"grpc_compressed_bytes_total" help:"Bytes of these batches' records as they came, compressed."`
	Gaps       prometheus.Counter `metric:"grpc_gaps_total" help:"Batches refused because one before them was not stored; they are sent again."`
	Twins      prometheus.Counter `metric:"grpc_two_hosts_total" help:"Times two hosts sent under one name at once, with the same certificate."`
	// Of forwarders as witnesses of the log.
	Checkpoints  prometheus.Counter `metric:"grpc_checkpoints_total" help:"Signed checkpoints sent to forwarders, which are witnesses."`
	Proofs       prometheus.Counter `metric:"grpc_proofs_total" help:"Proofs sent to forwarders that one checkpoint goes on from another."`
	ProofsPassed prometheus.Counter `metric:"grpc_proofs_passed_over_total" help:"Proofs asked for more often than a name is answered."`
	Malformed    *Reasons           `metric:"grpc_malformed_total" label:"cause" help:"Streams ended for what they sent, by cause."`
}

// NewGRPC registers the metrics of the part that receives by gRPC; reasons are those for
// which a client is refused.
func NewGRPC(r *Registry, reasons ...string) *GRPC {
	m := count[GRPC](r, collector)
	m.Refused.announce(RefusedDup, RefusedLimit, RefusedProxy)
	m.Failed.announce(reasons...)
	m.Closed.announce(ClosedByPeer, ClosedHandshake, ClosedIdle, ClosedRevoked, ClosedSlow, ClosedShutdown)
	m.Malformed.announce(MalformedVersion, "open", "order", "batch", "message", "prove")
	return m
}

// Intake holds the counters of received records, whatever transport they came by.
type Intake struct {
	Records    prometheus.Counter   `metric:"records_total" help:"Records received and stored."`
	Bytes      prometheus.Counter   `metric:"bytes_total" help:"Bytes of raw text received and stored."`
	InFlight   prometheus.Gauge     `metric:"inflight_bytes" help:"Bytes received and not yet stored."`
	Waits      prometheus.Counter   `metric:"inflight_waits_total" help:"Times a connection waited to be read because max_in_flight_total was reached."`
	AckSeconds prometheus.Histogram `metric:"ack_seconds" help:"From a burst's receipt to its acknowledgement."`
	Empty      prometheus.Counter   `metric:"empty_records_total" help:"Messages and lines without any text: acknowledged, nothing to store."`
	Rejected   *Reasons             `metric:"rejected_records_total" label:"reply" help:"Records answered with an error instead of an acknowledgement, by reply."`
}

// Why a record was not stored.
const (
	RejectedFull      = "diskfull"
	RejectedError     = "diskerror"
	RejectedSuspended = "suspended" // a DISKERROR, too
)

// NewIntake registers the metrics of received records.
func NewIntake(r *Registry) *Intake {
	m := count[Intake](r, collector)
	m.Rejected.announce(RejectedFull, RejectedError, RejectedSuspended)
	return m
}

// Remote holds the counters of the sessions of the audisp-remote protocol.
type Remote struct {
	Heartbeats prometheus.Counter `metric:"heartbeats_total" help:"Heartbeats answered."`
	Truncated  prometheus.Counter `metric:"truncated_total" help:"Connections that ended within a frame or a line; the sender has had no acknowledgement for it."`
	Pauses     prometheus.Counter `metric:"inflight_pauses_total" help:"Times a connection was not read on because its max_in_flight was reached."`
	Evicted    prometheus.Counter `metric:"reply_evictions_total" help:"Connections closed because they did not take their replies while all that waited were more than may."`
	Malformed  *Reasons           `metric:"malformed_total" label:"cause" help:"Connections closed for what they sent, by cause."`
}

// Causes of a malformed stream.
const (
	MalformedVersion = "version"
	MalformedLength  = "length"
	MalformedLine    = "line"
	MalformedProxy   = "proxy"
	MalformedType    = "type"
	MalformedTLS     = "tls" // where clear text is expected
)

// NewRemote registers the metrics of these sessions.
func NewRemote(r *Registry) *Remote {
	m := count[Remote](r, collector)
	m.Malformed.announce(MalformedVersion, MalformedLength, MalformedLine, MalformedType, MalformedTLS, MalformedProxy)
	return m
}

// Journal holds the counters of the journal that the journal does not keep itself; see
// JournalSample for the others.
type Journal struct {
	SyncSeconds prometheus.Histogram `metric:"sync_seconds" help:"Duration of the journal's syncs."`
}

// NewJournal registers the metrics of Journal.
func NewJournal(r *Registry) *Journal { return count[Journal](r, collector) }

// OwnRecords holds the counters of the records that the collector itself writes.
type OwnRecords struct {
	Dropped prometheus.Counter `metric:"own_records_dropped_total" help:"The collector's own DAEMON_* records that were not stored: more came than the journal took, or the disk is full."`
	Omitted prometheus.Counter `metric:"own_records_omitted_total" help:"Refusals, connections and queries of which no record was written: there were too many in that minute, in all or of one address or asker. A record says how many."`
}

// NewOwnRecords registers the metrics of OwnRecords.
func NewOwnRecords(r *Registry) *OwnRecords { return count[OwnRecords](r, collector) }

// Drops holds the counters of retention.
type Drops struct {
	Days   *Reasons `metric:"dropped_dates_total" label:"reason" help:"Days of events dropped, by reason."`
	Events *Reasons `metric:"dropped_events_total" label:"reason" help:"Events dropped with their day, by reason."`
}

// NewDrops registers the metrics of retention; reasons are the values of its label that
// are exported from the start.
func NewDrops(r *Registry, reasons ...string) *Drops {
	m := count[Drops](r, collector)
	m.Days.announce(reasons...)
	m.Events.announce(reasons...)
	return m
}

// TLS holds the counters of TLS connections of the audisp-remote protocol.
type TLS struct {
	Sessions prometheus.Counter `metric:"tls_sessions_total" help:"TLS sessions begun, of peers that have proved who they are."`
	Refused  *Reasons           `metric:"tls_refused_total" label:"reason" help:"TLS connections refused, or cut off because their peer is no longer allowed, by reason."`
}

// NewTLS registers the metrics of TLS connections; reasons are those for which a peer is
// refused.
func NewTLS(r *Registry, reasons ...string) *TLS {
	m := count[TLS](r, collector)
	m.Refused.announce(reasons...)
	return m
}

// Alerts holds the counters of the part that looks at conditions.
type Alerts struct {
	Looks   prometheus.Counter   `metric:"alert_evaluations_total" help:"Times that all conditions of alerts were looked at."`
	Errors  prometheus.Counter   `metric:"alert_errors_total" help:"Failures to save the alerts."`
	Seconds prometheus.Histogram `metric:"alert_evaluation_seconds" help:"How long it took to look at all conditions, and to hand over what was due."`
}

// NewAlerts registers the metrics of Alerts.
func NewAlerts(r *Registry) *Alerts { return count[Alerts](r, collector) }
