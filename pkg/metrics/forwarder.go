package metrics

import "time"

// AgentSample holds the numbers of a forwarder's input and of its losses.
type AgentSample struct {
	Records    uint64            `metric:"records_total" help:"Records handed to the local log and the spool."`
	EOE        uint64            `metric:"eoe_total" help:"EOE records, which are not handed on."`
	BadInput   uint64            `metric:"bad_input_total" help:"Parts of the input that are no records."`
	SourceGaps uint64            `metric:"source_gaps_total" help:"Times a followed file was rotated away before it was read."`
	Lost       map[string]uint64 `metric:"lost_total" label:"cause" help:"Records lost, by cause."`
}

// ReadAgent registers the metrics of AgentSample. Each scrape calls sample.
func ReadAgent(r *Registry, sample func() AgentSample) { read(r, forwarder, sample) }

// KernelSample holds the numbers of the kernel's audit socket.
type KernelSample struct {
	Records       uint64 `metric:"kernel_records_total" help:"Records received from the kernel."`
	Bytes         uint64 `metric:"kernel_bytes_total" help:"Bytes of records received from the kernel."`
	Overruns      uint64 `metric:"kernel_overruns_total" help:"Times the kernel found the receive buffer full."`
	Registrations uint64 `metric:"kernel_registrations_total" help:"Times this daemon registered; more than one says the kernel had dropped it."`
	SerialGaps    uint64 `metric:"kernel_serial_gaps_total" help:"Event serials of the kernel that no record came with: informative, no count of lost records."`
	QueueRecords  int    `metric:"kernel_queue_records" help:"Records waiting between the reader and the local log."`
	QueueBytes    int    `metric:"kernel_queue_bytes" help:"Bytes waiting between the reader and the local log."`
	QueueCapacity int    `metric:"kernel_queue_capacity_bytes" help:"Bytes that may wait there."`
	Backlog       uint32 `metric:"kernel_backlog" help:"Records waiting in the kernel, as last read."`
	BacklogLimit  uint32 `metric:"kernel_backlog_limit" help:"The kernel's backlog_limit."`
	Enabled       uint32 `metric:"kernel_enabled" help:"The kernel's enabled flag: 0 off, 1 on, 2 locked."`
}

// ReadKernel registers the metrics of KernelSample. Each scrape calls sample.
func ReadKernel(r *Registry, sample func() KernelSample) { read(r, forwarder, sample) }

// NamesSample holds the numbers of the lookups of users and groups.
type NamesSample struct {
	Lookups    map[string]uint64 `metric:"name_lookups_total" label:"result" help:"Lookups of users and groups beyond the local files, by result."`
	Unanswered uint64            `metric:"names_unanswered_total" help:"Users and groups written as numbers because their lookup had not ended, or had failed."`
}

// ReadNames registers the metrics of NamesSample. Each scrape calls sample.
func ReadNames(r *Registry, sample func() NamesSample) { read(r, forwarder, sample) }

// LogSample holds the numbers of the local log.
type LogSample struct {
	Bytes          uint64 `metric:"log_bytes_total" help:"Bytes written to the local log."`
	Rotations      uint64 `metric:"log_rotations_total" help:"Rotations of the local log."`
	Reopened       uint64 `metric:"log_reopened_total" help:"Times the local log was opened again because another program had renamed or removed it."`
	Nameless       uint64 `metric:"log_nameless_records_total" help:"Records that went into a local log which another program had removed; lost_total has them as local-log."`
	Compressed     uint64 `metric:"log_compressed_total" help:"Rotated files of the local log that were compressed."`
	CompressErrors uint64 `metric:"log_compress_errors_total" help:"Rotated files that could not be compressed and stay as they are."`
	Suspended      bool   `metric:"log_suspended" help:"1 while writing the local log is suspended."`
	SyncErrors     uint64 `metric:"log_sync_errors_total" help:"Failed syncs of the local log."`
}

// ReadLog registers the metrics of LogSample. Each scrape calls sample.
func ReadLog(r *Registry, sample func() LogSample) { read(r, forwarder, sample) }

// SpoolSample holds the numbers of the spool.
type SpoolSample struct {
	Records    uint64        `metric:"spool_records" help:"Records not acknowledged yet."`
	Bytes      int64         `metric:"spool_bytes" help:"Bytes the spool has on disk."`
	Age        time.Duration `metric:"spool_age_seconds" help:"Age of the oldest record not acknowledged."`
	Moved      uint64        `metric:"spool_moved_total" help:"Times another program had removed, renamed or replaced the spool's folder or files of it."`
	Away       bool          `metric:"spool_away" help:"1 while the spool is not in its place and can't be put back: what waits does not survive the end of the program."`
	SyncErrors uint64        `metric:"spool_sync_errors_total" help:"Failed syncs of the spool."`
}

// ReadSpool registers the metrics of SpoolSample. Each scrape calls sample.
func ReadSpool(r *Registry, sample func() SpoolSample) { read(r, forwarder, sample) }

// ShipSample holds the numbers of sending records to the collector.
type ShipSample struct {
	Sent            uint64            `metric:"sent_total" help:"Records sent, the first time each."`
	Resent          uint64            `metric:"resent_total" help:"Records sent again."`
	Recalled        uint64            `metric:"recalled_total" help:"Records sent again although they were acknowledged: the collector no longer had them."`
	Acked           uint64            `metric:"acked_total" help:"Records acknowledged as stored."`
	Truncated       uint64            `metric:"truncated_total" help:"Records cut to the protocol's longest text."`
	Bytes           uint64            `metric:"sent_bytes_total" help:"Bytes written to the collector."`
	Connects        uint64            `metric:"connects_total" help:"Connections made to a collector."`
	Reconnects      uint64            `metric:"reconnects_total" help:"Connections made after the first."`
	ConnectFailures uint64            `metric:"connect_failures_total" help:"Connections that could not be made."`
	Disconnects     uint64            `metric:"disconnects_total" help:"Connections that ended by a fault or by the peer."`
	Failovers       uint64            `metric:"failovers_total" help:"Connections made to another server than the first."`
	Failbacks       uint64            `metric:"failbacks_total" help:"Changes to a server that comes before the present one and was back."`
	Heartbeats      uint64            `metric:"heartbeats_total" help:"Heartbeats sent."`
	Replies         map[string]uint64 `metric:"replies_total" label:"reply" help:"Replies that are no plain acknowledgement, by what they say."`
	Suspended       int64             `metric:"suspended" help:"1 while shipping is suspended by an action."`
	Server          int64             `metric:"server" help:"Which of the servers is used, 0 the first."`
	Connected       int64             `metric:"connected" help:"1 while connected to a collector."`
	InFlight        int64             `metric:"in_flight" help:"Records sent and not answered."`
}

// WitnessSample holds the numbers of what collectors sign of their logs, and this host keeps.
type WitnessSample struct {
	Checkpoints uint64            `metric:"witness_checkpoints_total" help:"Signed checkpoints of collectors' logs that were looked at."`
	Verified    uint64            `metric:"witness_verified_total" help:"Of these, those that go on from what this host had kept."`
	Passed      uint64            `metric:"witness_passed_over_total" help:"Checkpoints not looked at: the collector sent more than one a second."`
	Alarms      map[string]uint64 `metric:"witness_findings_total" label:"op" help:"What was found about collectors' logs, by the op of the record that says it; seal-store is no alarm by itself."`
	Errors      uint64            `metric:"witness_save_errors_total" help:"Attempts to keep checkpoints that failed."`
	Stores      int               `metric:"witness_stores" help:"Collectors' stores of which a checkpoint is kept."`
	Open        int               `metric:"witness_open_findings" help:"Findings about collectors' logs that nobody has accepted (forwarder witness accept)."`
}

// ReadWitness registers the metrics of WitnessSample. Each scrape calls sample.
func ReadWitness(r *Registry, sample func() WitnessSample) { read(r, forwarder, sample) }

// ReadShip registers the metrics of ShipSample. Each scrape calls sample.
func ReadShip(r *Registry, sample func() ShipSample) { read(r, forwarder, sample) }
