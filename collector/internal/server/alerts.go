package server

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/alert"
	"github.com/auditfleet/auditfleet/collector/internal/selfaudit"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// openAlerts reads what fired when the collector ended.
func (s *Server) openAlerts() (err error) {
	s.alerts, err = alert.Open(s.cfg.Alerts, alert.Options{
		FS: s.cfg.files, Dir: s.cfg.Store, Log: s.cfg.Log.Named("alert"), Now: s.cfg.Now, Metrics: metrics.NewAlerts(s.reg),
		Hosts: s.head.EachVitals, Collector: s.collectorVitals, Record: s.recordAlert, Deliver: s.deliverAlerts, Sync: s.syncAlerts,
		Patience: min(alert.DefaultPatience, s.cfg.hung),
	})
	if err == nil {
		s.sinks.SetFiring(s.firing)
	}
	return err
}

// recordAlert stores a change of an alert.
func (s *Server) recordAlert(n alert.Notice, omitted int) {
	var more []string
	for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
		if k != "host" {
			more = append(more, k+"="+n.Labels[k])
		}
	}
	s.own.Alert(selfaudit.Alert{Condition: n.Condition, Severity: n.Severity, State: n.State, Host: n.Labels["host"], More: strings.Join(more, ","), Value: n.Value, Omitted: omitted})
}

// collectorVitals is how this collector stands.
func (s *Server) collectorVitals() *alert.Collector {
	sp := s.space.Status()
	c := &alert.Collector{
		Low: sp.Is[space.Low], VeryLow: sp.Is[space.Admin], Full: sp.Is[space.Full], Suspended: sp.Suspended,
		Free: sp.Usage.Free, Dropped: s.own.Dropped(),
	}
	fault := func(is bool, kind, summary string) {
		if is {
			c.Faults = append(c.Faults, alert.Fault{Kind: kind, Summary: summary})
		}
	}
	j, h := s.journal.Stats(), s.head.Stats()
	fault(j.Failing, "journal", "the journal cannot be written: nothing is acknowledged; look at the disk")
	if kind, what := s.hangs(&j, &h); kind != "" {
		fault(true, kind, what)
	}
	if err := h.StoreError; err != nil {
		fault(true, "store", "the store takes no events (they are safe in the journal): "+err.Error())
	}
	if wait := s.waiting(); wait != "" {
		fault(true, "store", wait)
	}
	fault(sp.Is[space.Error], "disk", "writes to the collector's disk fail: look at the disk, and at the collector's log")
	fault(s.outgrown.Excess() > 0, "journal-size", "the journal has outgrown what it has to hold: the store takes too little")
	fault(s.retention.ClockDoubted(), "clock", "the collector's clock is far beyond the last stored day, or more than a day from the cluster's: put it right")
	if missing := s.store.Missing(); len(missing) > 0 {
		fault(true, "store-damaged", "the store is damaged, and answers lack what is lost: "+missing[0].Error()+": run `collector verify`")
	}
	if what, times := s.compaction.uncompacted(); times >= alarmingTries {
		fault(true, "compaction", what)
	}
	if why := s.seal.Status().Stopped; why != "" {
		fault(true, "seal", "the store's log is signed no more: "+why+"; look into it (collector verify), then `collector seal accept`")
	}
	c.Faults = append(c.Faults, s.sinkFaults()...)
	c.Keep = s.keep(&sp)
	return c
}

// keep is what there is for retention to drop; nil where it is not known.
func (s *Server) keep(sp *space.Status) *alert.Keep {
	st, err := s.store.Stats(context.Background())
	if err != nil {
		return nil
	}
	limits := s.retention.Limits()
	k := &alert.Keep{Bytes: int64(st.DiskBytes), MaxBytes: limits.MaxBytes, MaxDays: int64(limits.MaxDays), Free: -1, Today: int64(store.DayOf(s.cfg.Now()))}
	for _, p := range st.Parts {
		if n := len(k.Days); n > 0 && k.Days[n-1].Day == int64(p.Day) {
			k.Days[n-1].Bytes += int64(p.DiskBytes)
			continue
		}
		k.Days = append(k.Days, alert.Day{Day: int64(p.Day), Bytes: int64(p.DiskBytes)})
	}
	if len(limits.Rules) > 0 {
		if p, days := s.retention.Next(context.Background(), &st); p != nil {
			k.Next, k.NextDays = int64(p.Day), int64(days)
		}
		for _, c := range limits.ByClass(st.Parts, store.Day(k.Today)) {
			if c.MaxBytes > 0 && c.Days > 0 && c.Parts > 0 {
				k.Classes = append(k.Classes, alert.ClassKeep{Class: c.Class, Bytes: int64(c.DiskBytes), MaxBytes: c.MaxBytes, Daily: int64(c.Daily), Oldest: int64(c.Oldest), Days: int64(c.Days)})
			}
		}
	}
	// Days are dropped for want of space where an action says so.
	for _, a := range []struct {
		drops bool
		at    uint64
	}{
		{sp.Limits.SpaceLeftAction.Do == "rotate", sp.Limits.SpaceLeft.Of(sp.Usage.Total)},
		{sp.Limits.AdminSpaceLeftAction.Do == "rotate", sp.Limits.AdminSpaceLeft.Of(sp.Usage.Total)},
		{sp.Limits.DiskFullAction.Do == "rotate", sp.Reserve},
	} {
		if room := max(0, int64(sp.Usage.Free)-int64(a.at)); a.drops && !s.remote() && (k.Free < 0 || room < k.Free) {
			k.Free = room
		}
	}
	return k
}

// listAlerts is what the query API says of alerts.
func (s *Server) listAlerts() *fleet.AlertsResponse {
	out := &fleet.AlertsResponse{Sinks: s.listSinks()}
	for _, a := range s.alerts.List() {
		one := &fleet.Alert{
			Id: a.ID, Condition: a.Condition, Severity: a.Severity, State: a.State, Labels: a.Labels, Summary: a.Summary, Value: a.Value,
			StartedMs: a.Started.UnixMilli(), Flapping: a.Flapping,
		}
		if !a.Ended.IsZero() {
			one.EndedMs = a.Ended.UnixMilli()
		}
		if !a.Told.IsZero() {
			one.ToldMs = a.Told.UnixMilli()
		}
		out.Alerts = append(out.Alerts, one)
	}
	for _, c := range s.alerts.Conditions() {
		one := &fleet.AlertCondition{Name: c.Name, Off: c.Off, Threshold: c.Threshold, Severity: c.Severity, Doc: c.Doc}
		for _, n := range c.Firing {
			one.Firing += uint32(n)
		}
		out.Conditions = append(out.Conditions, one)
	}
	return out
}
