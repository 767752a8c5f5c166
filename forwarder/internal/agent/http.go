package agent

import (
	"maps"
	"slices"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/nss"
)

// register names what the parts count. All are asked at each scrape.
func (a *Agent) register(r *metrics.Registry) {
	const p = "auditfleet_forwarder_"
	num := func(f func() uint64) func() float64 { return func() float64 { return float64(f()) } }
	r.CounterFunc(p+"records_total", "Records handed to the local log and the spool.", num(a.pump.records.Load))
	r.CounterFunc(p+"eoe_total", "EOE records, which are not handed on.", num(a.pump.eoe.Load))
	r.CounterFunc(p+"bad_input_total", "Parts of the input that are no records.", num(a.badInput.Load))
	r.CounterFunc(p+"source_gaps_total", "Times a followed file was rotated away before it was read.", num(a.gaps.Load))
	var causes []string
	for _, c := range kernel.Causes() {
		causes = append(causes, c.String())
	}
	causes = append(causes, "spool-full", "spool-error", "spool-damaged", "given-up", "local-log")
	r.CounterFuncs(p+"lost_total", "Records lost, by cause.", "cause", causes, a.lost)
	if a.kernel != nil {
		a.registerKernel(r)
	}
	if names := a.cfg.Names; names != nil {
		r.CounterFuncs(p+"name_lookups_total", "Lookups of users and groups beyond the local files, by result.", "result", nss.Results(), func(result string) float64 { return float64(names.Stats().Result(result)) })
		r.CounterFunc(p+"names_unanswered_total", "Users and groups written as numbers because their lookup had not ended, or had failed.", func() float64 { return float64(names.Stats().Unanswered) })
	}
	if a.log.Load() != nil || a.cfg.Reload != nil {
		stat := func(f func(locallog.Stats) uint64) func() float64 {
			return func() float64 { return float64(f(a.logStats())) }
		}
		r.CounterFunc(p+"log_bytes_total", "Bytes written to the local log.", stat(func(s locallog.Stats) uint64 { return s.Bytes }))
		r.CounterFunc(p+"log_rotations_total", "Rotations of the local log.", stat(func(s locallog.Stats) uint64 { return s.Rotations }))
		r.CounterFunc(p+"log_reopened_total", "Times the local log was opened again because another program had renamed or removed it.", stat(func(s locallog.Stats) uint64 { return s.Reopened }))
		r.CounterFunc(p+"log_nameless_records_total", "Records that went into a local log which another program had removed; lost_total has them as local-log.", stat(func(s locallog.Stats) uint64 { return s.Nameless }))
		r.CounterFunc(p+"log_compressed_total", "Rotated files of the local log that were compressed.", stat(func(s locallog.Stats) uint64 { return s.Compressed }))
		r.CounterFunc(p+"log_compress_errors_total", "Rotated files that could not be compressed and stay as they are.", stat(func(s locallog.Stats) uint64 { return s.CompressErrors }))
		r.GaugeFunc(p+"log_suspended", "1 while writing the local log is suspended.", func() float64 {
			if l := a.log.Load(); l != nil && l.Suspended() {
				return 1
			}
			return 0
		})
		r.CounterFunc(p+"log_sync_errors_total", "Failed syncs of the local log.", stat(func(s locallog.Stats) uint64 { return s.SyncErrors }))
	}
	if a.plugins != nil {
		r.Plugins(p, func(yield func(metrics.PluginSample)) {
			for _, s := range a.plugins.Stats() {
				yield(metrics.PluginSample{Plugin: s.Name, Delivered: s.Delivered, Dropped: s.Dropped, Restarts: s.Restarts, Queued: s.Queued, Up: s.Up})
			}
		})
	}
	if a.spool != nil {
		a.registerShipping(r)
	}
}

func (a *Agent) lost(cause string) float64 {
	switch {
	case cause == "local-log":
		s := a.logStats()
		return float64(s.Dropped + s.Nameless)
	case cause == "spool-error":
		return float64(a.pump.spoolError.Load())
	case cause == "spool-full" || cause == "spool-damaged":
		if a.spool == nil {
			return 0
		}
		if cause == "spool-full" {
			return float64(a.spool.Counts().Dropped)
		}
		return float64(a.spool.Counts().Damaged)
	case cause == "given-up":
		return float64(a.shipMetrics.Dropped.Load())
	case a.kernel != nil:
		return float64(a.kernel.Stats().Lost[cause])
	}
	return 0
}

func (a *Agent) registerKernel(r *metrics.Registry) {
	const p = "auditfleet_forwarder_kernel_"
	stat := func(f func(kernel.Stats) float64) func() float64 {
		return func() float64 { return f(a.kernel.Stats()) }
	}
	r.CounterFunc(p+"records_total", "Records received from the kernel.", stat(func(s kernel.Stats) float64 { return float64(s.Records) }))
	r.CounterFunc(p+"bytes_total", "Bytes of records received from the kernel.", stat(func(s kernel.Stats) float64 { return float64(s.Bytes) }))
	r.CounterFunc(p+"overruns_total", "Times the kernel found the receive buffer full.", stat(func(s kernel.Stats) float64 { return float64(s.Overruns) }))
	r.CounterFunc(p+"registrations_total", "Times this daemon registered; more than one says the kernel had dropped it.", stat(func(s kernel.Stats) float64 { return float64(s.Registered) }))
	r.CounterFunc(p+"serial_gaps_total", "Event serials of the kernel that no record came with: informative, no count of lost records.", stat(func(s kernel.Stats) float64 { return float64(s.SerialGaps) }))
	r.GaugeFunc(p+"queue_records", "Records waiting between the reader and the local log.", stat(func(s kernel.Stats) float64 { return float64(s.QueueRecords) }))
	r.GaugeFunc(p+"queue_bytes", "Bytes waiting between the reader and the local log.", stat(func(s kernel.Stats) float64 { return float64(s.QueueBytes) }))
	r.GaugeFunc(p+"queue_capacity_bytes", "Bytes that may wait there.", stat(func(s kernel.Stats) float64 { return float64(s.QueueCap) }))
	r.GaugeFunc(p+"backlog", "Records waiting in the kernel, as last read.", stat(func(s kernel.Stats) float64 { return float64(s.Kernel.Backlog) }))
	r.GaugeFunc(p+"backlog_limit", "The kernel's backlog_limit.", stat(func(s kernel.Stats) float64 { return float64(s.Kernel.BacklogLimit) }))
	r.GaugeFunc(p+"enabled", "The kernel's enabled flag: 0 off, 1 on, 2 locked.", stat(func(s kernel.Stats) float64 { return float64(s.Kernel.Enabled) }))
}

func (a *Agent) registerShipping(r *metrics.Registry) {
	const p = "auditfleet_forwarder_"
	stat := func(f func(spool.Stats) float64) func() float64 { return func() float64 { return f(a.spool.Stats()) } }
	r.GaugeFunc(p+"spool_records", "Records not acknowledged yet.", stat(func(s spool.Stats) float64 { return float64(s.Records) }))
	r.GaugeFunc(p+"spool_bytes", "Bytes the spool has on disk.", stat(func(s spool.Stats) float64 { return float64(s.Bytes) }))
	r.GaugeFunc(p+"spool_age_seconds", "Age of the oldest record not acknowledged.", stat(func(s spool.Stats) float64 { return s.Age.Seconds() }))
	r.CounterFunc(p+"spool_moved_total", "Times another program had removed, renamed or replaced the spool's folder or files of it.", stat(func(s spool.Stats) float64 { return float64(s.Moved) }))
	r.GaugeFunc(p+"spool_away", "1 while the spool is not in its place and can't be put back: what waits does not survive the end of the program.", func() float64 {
		if a.spool.Away() != "" {
			return 1
		}
		return 0
	})
	r.CounterFunc(p+"spool_sync_errors_total", "Failed syncs of the spool.", stat(func(s spool.Stats) float64 { return float64(s.SyncErrors) }))
	m := &a.shipMetrics
	num := func(f func() uint64) func() float64 { return func() float64 { return float64(f()) } }
	r.CounterFunc(p+"sent_total", "Records sent, the first time each.", num(m.Sent.Load))
	r.CounterFunc(p+"resent_total", "Records sent again.", num(m.Resent.Load))
	r.CounterFunc(p+"acked_total", "Records acknowledged as stored.", num(m.Acked.Load))
	r.CounterFunc(p+"truncated_total", "Records cut to the protocol's longest text.", num(m.Truncated.Load))
	r.CounterFunc(p+"sent_bytes_total", "Bytes written to the collector.", num(m.Bytes.Load))
	r.CounterFunc(p+"connects_total", "Connections made to a collector.", num(m.Connects.Load))
	r.CounterFunc(p+"reconnects_total", "Connections made after the first.", num(m.Reconnects.Load))
	r.CounterFunc(p+"connect_failures_total", "Connections that could not be made.", num(m.ConnectFailures.Load))
	r.CounterFunc(p+"disconnects_total", "Connections that ended by a fault or by the peer.", num(m.Disconnects.Load))
	r.CounterFunc(p+"failovers_total", "Connections made to another server than the first.", num(m.Failovers.Load))
	r.CounterFunc(p+"failbacks_total", "Changes to a server that comes before the present one and was back.", num(m.Failbacks.Load))
	r.CounterFunc(p+"heartbeats_total", "Heartbeats sent.", num(m.Heartbeats.Load))
	replies := map[string]func() uint64{
		"disklow": m.DiskLow.Load, "diskfull": m.DiskFull.Load, "diskerror": m.DiskError.Load, "warning": m.OtherWarnings.Load,
		"error": m.OtherErrors.Load, "ending": m.Endings.Load, "unexpected": m.UnexpectedReplies.Load,
	}
	r.CounterFuncs(p+"replies_total", "Replies that are no plain acknowledgement, by what they say.", "reply", slices.Sorted(maps.Keys(replies)), func(reply string) float64 { return float64(replies[reply]()) })
	r.GaugeFunc(p+"suspended", "1 while shipping is suspended by an action.", func() float64 { return float64(m.Suspended.Load()) })
	r.GaugeFunc(p+"server", "Which of the servers is used, 0 the first.", func() float64 { return float64(m.Server.Load()) })
	r.GaugeFunc(p+"connected", "1 while connected to a collector.", func() float64 { return float64(m.Connected.Load()) })
	r.GaugeFunc(p+"in_flight", "Records sent and not answered.", func() float64 { return float64(m.InFlight.Load()) })
}
