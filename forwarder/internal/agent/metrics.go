package agent

import (
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/nss"
)

// register has r read what the parts that run count.
func (a *Agent) register(r *metrics.Registry) {
	metrics.ReadAgent(r, func() metrics.AgentSample {
		return metrics.AgentSample{
			Records: a.pump.records.Load(), EOE: a.pump.eoe.Load(), BadInput: a.badInput.Load(), SourceGaps: a.gaps.Load(), Lost: a.losses(),
		}
	})
	if a.kernel != nil {
		metrics.ReadKernel(r, a.kernelSample)
	}
	if names := a.cfg.Names; names != nil {
		metrics.ReadNames(r, func() metrics.NamesSample {
			st := names.Stats()
			by := map[string]uint64{}
			for _, result := range nss.Results() {
				by[result] = st.Result(result)
			}
			return metrics.NamesSample{Lookups: by, Unanswered: st.Unanswered}
		})
	}
	if a.log.Load() != nil || a.cfg.Reload != nil {
		metrics.ReadLog(r, a.logSample)
	}
	if a.plugins != nil {
		metrics.ReadForwarderPlugins(r, func(yield func(metrics.PluginSample)) {
			for _, s := range a.plugins.Stats() {
				yield(metrics.PluginSample{Plugin: s.Name, Delivered: s.Delivered, Dropped: s.Dropped, Restarts: s.Restarts, Queued: s.Queued, Up: s.Up})
			}
		})
	}
	if a.spool != nil {
		metrics.ReadSpool(r, a.spoolSample)
		metrics.ReadShip(r, a.shipSample)
	}
}

// losses are the numbers of records lost, by every cause there is, also those by which none
// can be lost with this source.
func (a *Agent) losses() map[string]uint64 {
	log := a.logStats()
	by := map[string]uint64{
		"spool-full": 0, "spool-error": a.pump.spoolError.Load(), "spool-damaged": 0,
		"given-up": a.shipMetrics.Dropped.Load(), "local-log": log.Dropped + log.Nameless,
	}
	for _, c := range kernel.Causes() {
		by[c.String()] = 0
	}
	if a.kernel != nil {
		for cause, n := range a.kernel.Stats().Lost {
			by[cause] = n
		}
	}
	if a.spool != nil {
		c := a.spool.Counts()
		by["spool-full"], by["spool-damaged"] = c.Dropped, c.Damaged
	}
	return by
}

func (a *Agent) kernelSample() metrics.KernelSample {
	s := a.kernel.Stats()
	return metrics.KernelSample{
		Records: s.Records, Bytes: s.Bytes, Overruns: s.Overruns, Registrations: s.Registered, SerialGaps: s.SerialGaps,
		QueueRecords: s.QueueRecords, QueueBytes: s.QueueBytes, QueueCapacity: s.QueueCap,
		Backlog: s.Kernel.Backlog, BacklogLimit: s.Kernel.BacklogLimit, Enabled: s.Kernel.Enabled,
	}
}

func (a *Agent) logSample() metrics.LogSample {
	s, l := a.logStats(), a.log.Load()
	return metrics.LogSample{
		Bytes: s.Bytes, Rotations: s.Rotations, Reopened: s.Reopened, Nameless: s.Nameless,
		Compressed: s.Compressed, CompressErrors: s.CompressErrors, Suspended: l != nil && l.Suspended(), SyncErrors: s.SyncErrors,
	}
}

func (a *Agent) spoolSample() metrics.SpoolSample {
	s := a.spool.Stats()
	return metrics.SpoolSample{Records: s.Records, Bytes: s.Bytes, Age: s.Age, Moved: s.Moved, Away: s.Away != "", SyncErrors: s.SyncErrors}
}

func (a *Agent) shipSample() metrics.ShipSample {
	m := &a.shipMetrics
	return metrics.ShipSample{
		Sent: m.Sent.Load(), Resent: m.Resent.Load(), Acked: m.Acked.Load(), Truncated: m.Truncated.Load(), Bytes: m.Bytes.Load(),
		Connects: m.Connects.Load(), Reconnects: m.Reconnects.Load(), ConnectFailures: m.ConnectFailures.Load(), Disconnects: m.Disconnects.Load(),
		Failovers: m.Failovers.Load(), Failbacks: m.Failbacks.Load(), Heartbeats: m.Heartbeats.Load(),
		Replies: map[string]uint64{
			"disklow": m.DiskLow.Load(), "diskfull": m.DiskFull.Load(), "diskerror": m.DiskError.Load(), "warning": m.OtherWarnings.Load(),
			"error": m.OtherErrors.Load(), "ending": m.Endings.Load(), "unexpected": m.UnexpectedReplies.Load(),
		},
		Suspended: m.Suspended.Load(), Server: m.Server.Load(), Connected: m.Connected.Load(), InFlight: m.InFlight.Load(),
	}
}
