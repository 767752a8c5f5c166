package agent

import (
	"maps"

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
	metrics.ForwarderBuild(r, a.cfg.Version, a.cfg.Commit)
	metrics.ReadForwarderConfig(r, a.reload.Sample)
	a.src.register(r)
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
	if a.ship != nil {
		metrics.ReadSpool(r, a.ship.spoolSample)
		metrics.ReadShip(r, a.ship.shipSample)
		if a.cfg.Witness != nil {
			metrics.ReadWitness(r, a.witnessSample)
		}
	}
}

// losses are the numbers of records lost, by every cause there is, also those by which none
// can be lost with this source.
func (a *Agent) losses() map[string]uint64 {
	log := a.logStats()
	by := map[string]uint64{
		"spool-full": 0, "spool-error": a.pump.spoolError.Load(), "spool-damaged": 0, "given-up": 0, "collector-lost": 0,
		"local-log": log.Dropped + log.Nameless,
	}
	for _, c := range kernel.Causes() {
		by[c.String()] = 0
	}
	maps.Copy(by, a.src.lost())
	if a.ship != nil {
		c := a.ship.spool.Counts()
		by["spool-full"], by["spool-damaged"], by["given-up"] = c.Dropped, c.Damaged, a.ship.metrics.Dropped.Load()
		by["collector-lost"] = a.ship.metrics.Gone.Load()
	}
	return by
}

func (a *Agent) logSample() metrics.LogSample {
	s, l := a.logStats(), a.log.Load()
	return metrics.LogSample{
		Bytes: s.Bytes, Rotations: s.Rotations, Reopened: s.Reopened, Nameless: s.Nameless,
		Compressed: s.Compressed, CompressErrors: s.CompressErrors, Suspended: l != nil && l.Suspended(), SyncErrors: s.SyncErrors,
	}
}

func (s *shipping) spoolSample() metrics.SpoolSample {
	st := s.spool.Stats()
	return metrics.SpoolSample{Records: st.Records, Bytes: st.Bytes, Age: st.Age, Moved: st.Moved, Away: st.Away != "", SyncErrors: st.SyncErrors}
}

func (s *shipping) shipSample() metrics.ShipSample {
	m := &s.metrics
	return metrics.ShipSample{
		Sent: m.Sent.Load(), Resent: m.Resent.Load(), Recalled: m.Recalled.Load(), Acked: m.Acked.Load(), Truncated: m.Truncated.Load(), Bytes: m.Bytes.Load(),
		Connects: m.Connects.Load(), Reconnects: m.Reconnects.Load(), ConnectFailures: m.ConnectFailures.Load(), Disconnects: m.Disconnects.Load(),
		Failovers: m.Failovers.Load(), Failbacks: m.Failbacks.Load(), Heartbeats: m.Heartbeats.Load(),
		Replies: map[string]uint64{
			"disklow": m.DiskLow.Load(), "diskfull": m.DiskFull.Load(), "diskerror": m.DiskError.Load(), "warning": m.OtherWarnings.Load(),
			"error": m.OtherErrors.Load(), "ending": m.Endings.Load(), "unexpected": m.UnexpectedReplies.Load(),
		},
		Suspended: m.Suspended.Load(), Server: m.Server.Load(), Connected: m.Connected.Load(), InFlight: m.InFlight.Load(),
	}
}
