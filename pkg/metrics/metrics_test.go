package metrics_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/metrics/metricstest"
)

// All metrics of each program can be registered side by side, and METRICS.md has them.
// That the programs register all of them is tested where they do so.
func TestAllAreDocumented(t *testing.T) {
	r := metrics.New()
	metrics.CollectorBuild(r, "v1", "abc")
	metrics.ReadCollectorConfig(r, func() (s metrics.ConfigSample) { return s })
	metrics.NewListen(r)
	metrics.NewIntake(r)
	metrics.NewRemote(r)
	metrics.NewGRPC(r, "expired")
	metrics.NewJournal(r)
	metrics.NewOwnRecords(r)
	metrics.NewDrops(r, "max_days")
	metrics.ReadJournal(r, func() (s metrics.JournalSample) { return s })
	metrics.ReadHead(r, func() (s metrics.HeadSample) {
		s.Evicted, s.WitnessAlarms = map[string]uint64{"max_open_age": 1}, map[string]uint64{"seal-fork": 1}
		return s
	})
	metrics.ReadSpace(r, func() (s metrics.SpaceSample) { s.Actions = map[string]uint64{"disk_full_action": 1}; return s })
	metrics.ReadStore(r, func() (s metrics.StoreSample) { return s })
	metrics.ReadHosts(r, 1, func(yield func(metrics.HostSample)) { yield(metrics.HostSample{Host: "web1"}) })
	metrics.ReadCollectorPlugins(r, func(yield func(metrics.PluginSample)) { yield(metrics.PluginSample{Plugin: "p"}) })
	metrics.NewAlerts(r)
	metrics.ReadSeal(r, func() (s metrics.SealSample) { return s })
	metrics.ReadCompact(r, func() (s metrics.CompactSample) { return s })
	metrics.ReadAlerts(r, func(yield func(metrics.AlertSample)) {
		yield(metrics.AlertSample{Condition: "loss", Firing: map[string]int{"critical": 1}})
	})
	metrics.ReadSinks(r, func(yield func(metrics.SinkSample)) { yield(metrics.SinkSample{Sink: "s"}) })
	metricstest.Documented(t, r, "auditfleet_collector_", "auditfleet_host_")

	r = metrics.New()
	metrics.ForwarderBuild(r, "v1", "abc")
	metrics.ReadForwarderConfig(r, func() (s metrics.ConfigSample) { return s })
	metrics.ReadAgent(r, func() (s metrics.AgentSample) { s.Lost = map[string]uint64{"queue": 1}; return s })
	metrics.ReadKernel(r, func() (s metrics.KernelSample) { return s })
	metrics.ReadNames(r, func() (s metrics.NamesSample) { s.Lookups = map[string]uint64{"found": 1}; return s })
	metrics.ReadLog(r, func() (s metrics.LogSample) { return s })
	metrics.ReadSpool(r, func() (s metrics.SpoolSample) { return s })
	metrics.ReadWitness(r, func() (s metrics.WitnessSample) { s.Alarms = map[string]uint64{"seal-fork": 1}; return s })
	metrics.ReadShip(r, func() (s metrics.ShipSample) { s.Replies = map[string]uint64{"ending": 1}; return s })
	metrics.ReadForwarderPlugins(r, func(yield func(metrics.PluginSample)) { yield(metrics.PluginSample{Plugin: "p"}) })
	metricstest.Documented(t, r, "auditfleet_forwarder_")
}

// scraped fails unless a scrape has these lines.
func scraped(t *testing.T, r *metrics.Registry, want ...string) string {
	t.Helper()
	got := "\n" + metricstest.Text(t, r) + "\n"
	for _, w := range want {
		if !strings.Contains(got, "\n"+w+"\n") {
			t.Errorf("no %s in\n%s", w, got)
		}
	}
	return got
}

// What is read is asked for at each scrape, whatever kind of number it is.
func TestSamples(t *testing.T) {
	r := metrics.New()
	spool := metrics.SpoolSample{Records: 3, Bytes: 1 << 20, Age: 1500 * time.Millisecond, Away: true}
	metrics.ReadSpool(r, func() metrics.SpoolSample { return spool })
	metrics.ReadAgent(r, func() metrics.AgentSample {
		return metrics.AgentSample{Lost: map[string]uint64{"queue": 2, "kernel": 0}}
	})
	metrics.ReadForwarderPlugins(r, func(yield func(metrics.PluginSample)) {
		yield(metrics.PluginSample{Plugin: "a", Delivered: 7, Queued: 1, Up: true})
		yield(metrics.PluginSample{Plugin: "b"})
	})
	scraped(t, r,
		"# TYPE auditfleet_forwarder_spool_records gauge", "auditfleet_forwarder_spool_records 3",
		"auditfleet_forwarder_spool_bytes 1.048576e+06", "auditfleet_forwarder_spool_age_seconds 1.5", "auditfleet_forwarder_spool_away 1",
		"# TYPE auditfleet_forwarder_lost_total counter", `auditfleet_forwarder_lost_total{cause="queue"} 2`, `auditfleet_forwarder_lost_total{cause="kernel"} 0`,
		`auditfleet_forwarder_plugin_records_total{plugin="a"} 7`, `auditfleet_forwarder_plugin_queue_records{plugin="a"} 1`,
		`auditfleet_forwarder_plugin_up{plugin="a"} 1`, `auditfleet_forwarder_plugin_up{plugin="b"} 0`)
	spool = metrics.SpoolSample{Records: 1}
	scraped(t, r, "auditfleet_forwarder_spool_records 1", "auditfleet_forwarder_spool_away 0")
}

func TestCounted(t *testing.T) {
	r := metrics.New()
	m, l := metrics.NewIntake(r), metrics.NewListen(r)
	m.Records.Add(2)
	m.InFlight.Set(5)
	m.AckSeconds.Observe(0.0001)
	l.Refused.Add(metrics.RefusedPort, 2)
	l.Refused.Add("new", 1)
	got := scraped(t, r,
		"auditfleet_collector_records_total 2", "auditfleet_collector_inflight_bytes 5",
		`auditfleet_collector_ack_seconds_bucket{le="5e-05"} 0`, `auditfleet_collector_ack_seconds_bucket{le="0.0001"} 1`,
		// They are there from the start.
		`auditfleet_collector_refused_total{reason="dup"} 0`, `auditfleet_collector_refused_total{reason="port"} 2`, `auditfleet_collector_refused_total{reason="new"} 1`)
	if n := strings.Count(got, "auditfleet_collector_closed_total{"); n != 10 {
		t.Errorf("%d reasons to close a connection, want 10", n)
	}
	defer func() {
		if recover() == nil {
			t.Error("a metric can be registered twice")
		}
	}()
	metrics.NewListen(r)
}

func TestHostSeriesAreBounded(t *testing.T) {
	r := metrics.New()
	metrics.ReadHosts(r, 3, func(yield func(metrics.HostSample)) {
		for i := range 10 {
			yield(metrics.HostSample{Host: fmt.Sprintf("h%d", i), Records: uint64(i), Bytes: uint64(10 * i), Duplicates: 1, LastSeen: float64(100 - i), LastEvent: 5, Lost: uint64(i), Lag: float64(95 - i)})
		}
	})
	got := scraped(t, r,
		`auditfleet_host_records_total{host="h9"} 9`,
		`auditfleet_host_records_total{host="h8"} 8`,
		`auditfleet_host_records_total{host="h7"} 7`,
		`auditfleet_host_records_total{host="_other"} 21`, // 0 + 1 + … + 6
		`auditfleet_host_bytes_total{host="_other"} 210`,
		`auditfleet_host_duplicates_total{host="_other"} 7`,
		`auditfleet_host_last_seen_seconds{host="_other"} 100`,
		`auditfleet_host_lag_seconds{host="h9"} 86`,
		`auditfleet_host_lag_seconds{host="_other"} 95`)
	if n := strings.Count(got, "auditfleet_host_records_total{"); n != 4 {
		t.Errorf("%d series a name, want 3 hosts and the rest", n)
	}
}

// A label value sent by a host is text from the network.
func TestHostNamesOfAnyBytes(t *testing.T) {
	r := metrics.New()
	metrics.ReadHosts(r, 10, func(yield func(metrics.HostSample)) {
		yield(metrics.HostSample{Host: "a\"b\nc", Records: 1})
		yield(metrics.HostSample{Host: "\xff\xfe", Records: 2})
		yield(metrics.HostSample{Host: `\xff\xfe`, Records: 3})
		yield(metrics.HostSample{Host: metrics.OtherHosts, Records: 4})
	})
	scraped(t, r,
		`auditfleet_host_records_total{host="a\"b\nc"} 1`,
		`auditfleet_host_records_total{host="\\xff\\xfe"} 5`, // two that look the same
		`auditfleet_host_records_total{host="\"_other\""} 4`)
}
