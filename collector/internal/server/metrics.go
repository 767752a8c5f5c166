package server

import (
	"context"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// registerMetrics has the registry read what the parts count themselves.
func (s *Server) registerMetrics() {
	metrics.CollectorBuild(s.reg, s.cfg.Version, s.cfg.Commit)
	metrics.ReadCollectorConfig(s.reg, s.reload.Sample)
	metrics.ReadJournal(s.reg, s.journalSample)
	metrics.ReadHead(s.reg, s.headSample)
	metrics.ReadSpace(s.reg, s.spaceSample)
	metrics.ReadStore(s.reg, s.storeSample)
	metrics.ReadSinks(s.reg, s.sinkSamples)
	metrics.ReadCompact(s.reg, s.compaction.sample)
	if s.seal != nil {
		metrics.ReadSeal(s.reg, s.sealSample)
	}
	metrics.ReadCollectorPlugins(s.reg, func(yield func(metrics.PluginSample)) {
		for _, p := range s.fanout.Stats() {
			yield(metrics.PluginSample{
				Plugin: p.Name, Delivered: p.Delivered, Dropped: p.Dropped, Restarts: p.Restarts, Queued: p.Queued, Up: p.Up,
			})
		}
	})
	metrics.ReadAlerts(s.reg, func(yield func(metrics.AlertSample)) {
		for _, c := range s.alerts.Conditions() {
			yield(metrics.AlertSample{Condition: c.Name, Firing: c.Firing})
		}
	})
	metrics.ReadHosts(s.reg, s.cfg.MetricHosts, func(yield func(metrics.HostSample)) {
		for _, h := range s.head.Hosts() {
			if h.Last.IsZero() {
				continue // known from an import alone: it never was here
			}
			yield(metrics.HostSample{
				Host: h.Name, Records: h.Records, Bytes: h.Bytes, Duplicates: h.Duplicates,
				LastSeen: float64(h.Last.UnixMilli()) / 1000, LastEvent: float64(h.LastEventMs) / 1000,
				Lost: h.Lost, Lag: float64(h.LagMs) / 1000,
			})
		}
	})
}

func (s *Server) journalSample() metrics.JournalSample {
	st := s.journal.Stats()
	return metrics.JournalSample{
		Duplicates: st.Duplicates, Commits: st.Commits, Syncs: st.Syncs, QueueBytes: st.QueueBytes, DiskBytes: st.DiskBytes,
		Carried: st.Carried, Forgotten: st.Forgotten, ResendBytes: st.ResendBytes, Hanging: st.Hanging.Seconds(),
		LimitBytes: s.outgrown.Limit(), Outgrown: s.outgrown.Excess() > 0,
	}
}

func (s *Server) headSample() metrics.HeadSample {
	st := s.head.Stats()
	evicted := map[string]uint64{}
	for e := range head.NumEarly {
		evicted[e.String()] = st.Early[e]
	}
	alarms := map[string]uint64{}
	for n := range head.NumSealOps {
		alarms[head.SealOp(n)] = st.SealAlarms[n]
	}
	return metrics.HeadSample{
		WitnessAlarms: alarms,
		Events:        st.Events, Unparsable: st.Unparsable, StoreFailures: st.StoreFailures, Evicted: evicted, SearchesBehind: st.SearchesBehind,
		Mixed: st.Mixed, NamesRefused: st.NamesRefused, AddressChanges: st.AddressChanges, Mismatched: st.Mismatched, FarFuture: st.FarFuture,
		OpenBytes: st.OpenBytes, OpenEvents: st.OpenEvents, MemoryEvents: st.TableEvents, MemoryBytes: st.TableBytes, Hosts: st.Hosts,
	}
}

func (s *Server) spaceSample() metrics.SpaceSample {
	st := s.space.Status()
	return metrics.SpaceSample{
		Free: st.Usage.Free, Size: st.Usage.Total, Reserve: st.Reserve,
		Low: st.Is[space.Low], VeryLow: st.Is[space.Admin], Full: st.Is[space.Full], Failing: st.Is[space.Error], Suspended: st.Suspended,
		Actions: map[string]uint64{
			"space_left_action": st.Actions[space.Low], "admin_space_left_action": st.Actions[space.Admin],
			"disk_full_action": st.Actions[space.Full], "disk_error_action": st.Actions[space.Error],
		},
	}
}

func (s *Server) storeSample() metrics.StoreSample {
	sample := metrics.StoreSample{Missing: len(s.store.Missing()), ClockDoubted: s.retention.ClockDoubted()}
	if sp, err := store.Able[store.Spooler](s.store, "let events wait"); err == nil {
		w := sp.Waiting()
		sample.Waiting, sample.WaitingBytes, sample.Refused = w.Batches, w.Bytes, w.Err != nil
	}
	st, err := s.store.Stats(context.Background())
	if err != nil {
		return sample // the store is closed, and soon the program ends
	}
	days := map[store.Day]bool{}
	for _, d := range st.Parts {
		days[d.Day] = true
	}
	n, bytes, _ := held(context.Background(), s.holds.keep, st.Parts)
	sample.Holds, sample.Held, sample.HeldBytes, sample.HoldsBroken = len(s.holds.set.List()), int(n), bytes, s.holds.set.Broken() != nil
	sample.Days, sample.Partitions, sample.DiskBytes = len(days), len(st.Parts), st.DiskBytes
	sample.Events, sample.IndexBytes, sample.RawBytes = st.Events, st.IndexBytes, st.RawBytes
	return sample
}
