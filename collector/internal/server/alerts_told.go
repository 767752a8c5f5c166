package server

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/alert"
	"github.com/auditfleet/auditfleet/collector/internal/sink"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

const (
	// sinkFails is how long a sink may not deliver before that is an alert.
	sinkFails = 15 * time.Minute
	// sinkDrops is how long it is one that a sink did not get a notice, and will not.
	sinkDrops = time.Hour
	// testTime bounds how long a sink may take for a test.
	testTime = 30 * time.Second
)

// notice is an alert as sinks have it.
func notice(n *alert.Notice) sink.Notice {
	return sink.Notice{
		ID: n.ID, Condition: n.Condition, Severity: n.Severity, State: n.State, Labels: n.Labels, Summary: n.Summary, Value: n.Value,
		Started: n.Started, Ended: n.Ended, At: n.At, Test: n.Test,
	}
}

// deliverAlerts logs a group, and hands it to the sinks.
func (s *Server) deliverAlerts(g alert.Group) {
	if s.cfg.alerted != nil {
		s.cfg.alerted(g)
	}
	first := &g.Notices[0]
	log := s.cfg.Log.Named("alert").Warn
	if first.State == alert.Resolved || first.Severity == string(alert.Info) {
		log = s.cfg.Log.Named("alert").Info
	}
	log("alerts are "+first.State, "condition", first.Condition, "severity", first.Severity, "alerts", g.Total, "first", first.Summary)
	to := sink.Group{Key: g.Key, Total: g.Total}
	for i := range g.Notices {
		to.Notices = append(to.Notices, notice(&g.Notices[i]))
	}
	s.sinks.Deliver(to)
}

// syncAlerts waits until the sinks have on disk what they were told.
func (s *Server) syncAlerts(ctx context.Context) error { return s.sinks.Sync(ctx) }

// firing is what sinks that must hear it again and again are told.
func (s *Server) firing() (out []sink.Notice) {
	list := s.alerts.Firing()
	for i := range list {
		out = append(out, notice(&list[i]))
	}
	return out
}

// first is the first line of what is wrong, and says how many there are.
func first(lines string) string {
	all := strings.Split(lines, "\n")
	if len(all) == 1 {
		return all[0]
	}
	return fmt.Sprintf("%s; and %d more, which the log has", all[0], len(all)-1)
}

// sinkFaults are the sinks that have not delivered for some time, or that notices were dropped of, and
// files of sinks that are wrong: others may tell of it.
func (s *Server) sinkFaults() (out []alert.Fault) {
	now := s.cfg.Now()
	if err := s.sinks.Problem(); err != nil {
		out = append(out, alert.Fault{Kind: "sinks", Summary: "not all sinks of alerts can be used: " + first(err.Error())})
	}
	for _, st := range s.sinks.Status() {
		if !st.Failing.IsZero() && now.Sub(st.Failing) >= sinkFails {
			out = append(out, alert.Fault{Kind: "sink:" + st.Name, Summary: fmt.Sprintf("the sink %s delivers nothing, and %d notices wait for it: %s", st.Name, st.Queued, st.LastError)})
		} else if !st.LastDropped.IsZero() && now.Sub(st.LastDropped) < sinkDrops {
			out = append(out, alert.Fault{Kind: "sink:" + st.Name, Summary: fmt.Sprintf("notices for the sink %s are dropped (%s): nobody hears of them there; `collector alerts` has them", st.Name, st.WhyDropped)})
		}
	}
	return out
}

// listSinks is what the query API says of sinks.
func (s *Server) listSinks() (out []*fleet.AlertSink) {
	for _, st := range s.sinks.Status() {
		one := &fleet.AlertSink{Name: st.Name, Kind: st.Kind, Queued: uint64(st.Queued), Delivered: st.Delivered}
		for _, n := range st.Dropped {
			one.Dropped += n
		}
		if !st.Failing.IsZero() {
			one.Error = st.LastError
		}
		if !st.LastSuccess.IsZero() {
			one.DeliveredMs = st.LastSuccess.UnixMilli()
		}
		out = append(out, one)
	}
	return out
}

// testAlert sends a test through the sink of a name, or through all where it is "".
func (s *Server) testAlert(ctx context.Context, name string) ([]*fleet.AlertTest, error) {
	names := s.sinks.Names()
	if name != "" {
		names = []string{name}
	}
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	now := s.cfg.Now()
	g := sink.Group{Key: "test/info/firing", Total: 1, Notices: []sink.Notice{{
		ID: fmt.Sprintf("test collector=%q", s.cfg.Node), Condition: "test", Severity: sink.Info, State: sink.Firing, Labels: map[string]string{"collector": s.cfg.Node},
		Summary: "this is a test of the alerts of the collector " + s.cfg.Node + ": nothing is wrong", Value: "1", Started: now, At: now, Test: true,
	}}}
	out := make([]*fleet.AlertTest, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		out[i] = &fleet.AlertTest{Sink: name}
		wg.Go(func() {
			if err := s.sinks.Test(ctx, name, g); err != nil {
				out[i].Error = strings.ToValidUTF8(err.Error(), "?") // another machine may have said it
			}
		})
	}
	wg.Wait()
	return out, nil
}
