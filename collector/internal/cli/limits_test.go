package cli

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// Every limit of what a peer may take has a key in the example, a flag, a default
// and a counter that is documented.
func TestLimits(t *testing.T) {
	conf, err := os.ReadFile("../../../deploy/collector.conf")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := os.ReadFile("../../../pkg/metrics/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	newOptions().table().AddFlags(flags)
	for _, l := range []struct{ key, value, counter string }{
		{"max_connections", "10000", "refused_total"},
		{"tcp_max_per_addr", "1", "refused_total"},
		{"tcp_listen_queue", "1024", "accept_errors_total"},
		{"grpc_max_per_addr", "256", "grpc_refused_total"},
		{"frame_timeout", "30s", "closed_total"},
		{"max_in_flight", "1M", "inflight_pauses_total"},
		{"max_in_flight_total", "256M", "inflight_waits_total"},
		{"max_hosts", "20000", "mixed_records_total"},
		{"max_open_events_per_host", "16384", "evicted_events_total"},
		{"max_open_bytes_per_host", "16M", "evicted_events_total"},
		{"max_open_events", "131072", "evicted_events_total"},
		{"max_open_age", "1m", "evicted_events_total"},
		{"max_open_bytes", "64M", "evicted_events_total"},
		{"metric_hosts", "1000", "hosts"},
		{"q_depth", "2000", "plugin_dropped_total"},
	} {
		if !regexp.MustCompile(`(?m)^` + l.key + ` = ` + l.value + `$`).Match(conf) {
			t.Errorf("the example lacks %s = %s", l.key, l.value)
		}
		name := strings.ReplaceAll(l.key, "_", "-")
		switch f := flags.Lookup(name); {
		case l.key == "q_depth": // the stock key only
		case f == nil:
			t.Errorf("there is no flag --%s", name)
		case f.DefValue != l.value:
			t.Errorf("--%s is %s by default, %s in the example", name, f.DefValue, l.value)
		}
		if !strings.Contains(string(metrics), "| `auditfleet_collector_"+l.counter+"` |") {
			t.Errorf("%s: no metric auditfleet_collector_%s is documented", l.key, l.counter)
		}
	}
}
