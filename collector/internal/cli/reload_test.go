package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/collector/internal/server"
)

// loaded is what a file's text configures.
func loaded(t *testing.T, text string) server.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "collector.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	cfg, _, err := configAgain(file, flags)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// Which keys need a restart: the shipped example says it, SIGHUP says it, and
// both say the same of every key.
func TestKeysAtStart(t *testing.T) {
	text, err := os.ReadFile("../../../deploy/collector.conf")
	if err != nil {
		t.Fatal(err)
	}
	var marked, all []string
	section, comment := false, ""
	for line := range strings.Lines(string(text)) {
		key := regexp.MustCompile(`^#?([a-z_]+) = `).FindStringSubmatch(line)
		switch {
		case strings.HasPrefix(line, "# ---"):
			section, comment = strings.Contains(line, "(restart)"), ""
		case key != nil:
			all = append(all, key[1])
			if section || strings.Contains(comment, "(restart)") {
				marked = append(marked, key[1])
			}
			comment = ""
		default:
			comment += line
		}
	}
	var table []string
	for _, k := range atStart {
		table = append(table, k.key)
	}
	slices.Sort(table)
	slices.Sort(marked)
	if diff := cmp.Diff(table, marked); diff != "" {
		t.Errorf("keys that need a restart (-in the code +in the example):\n%s", diff)
	}
	// Another value for every key there is: those are named, no others.
	other := map[string]string{
		"store": "/other", "listen": "127.0.0.1:6060", "api": "/other.sock", "api_group": "adm", "http": "127.0.0.1:1", "node": "other",
		"state_file": "/other.state", "flush": "none", "tcp_client_ports": "1-1000", "frame_timeout": "31s", "drain_timeout": "31s",
		"max_in_flight": "2M", "max_in_flight_total": "2M", "max_open_bytes_per_host": "1M", "max_open_bytes": "1M", "max_open_age": "31s", "disk_reserve": "1M",
		"max_bytes": "1T", "space_left": "11%", "admin_space_left": "6%", "space_left_action": "syslog", "admin_space_left_action": "syslog",
		"disk_full_action": "syslog", "disk_error_action": "ignore", "action_mail_acct": "other", "distribute_network": "yes",
		"plugin_dir": "/other", "overflow_action": "ignore", "hosts_file": "/other", "log_level": "debug",
	}
	was := loaded(t, "tcp_max_per_addr = 2\n")
	for _, key := range all {
		value := other[key]
		if value == "" {
			value = "3" // a number, and no default
		}
		is := loaded(t, "tcp_max_per_addr = 2\n"+key+" = "+value+"\n")
		if key == "tcp_max_per_addr" {
			is = loaded(t, "tcp_max_per_addr = 3\n")
		}
		got := changed(&was, &is)
		var want []string
		if slices.Contains(table, key) {
			want = []string{key}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s = %s: %v need a restart, want %v", key, value, got, want)
		}
	}
}

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
	defaultOptions().addFlags(flags)
	for _, l := range []struct{ key, value, counter string }{
		{"max_connections", "10000", "refused_total"},
		{"tcp_max_per_addr", "1", "refused_total"},
		{"tcp_listen_queue", "1024", "accept_errors_total"},
		{"frame_timeout", "30s", "closed_total"},
		{"max_in_flight", "1M", "inflight_pauses_total"},
		{"max_in_flight_total", "256M", "inflight_waits_total"},
		{"max_hosts", "20000", "mixed_records_total"},
		{"max_open_events_per_host", "16384", "evicted_events_total"},
		{"max_open_bytes_per_host", "16M", "evicted_events_total"},
		{"max_open_events", "131072", "evicted_events_total"},
		{"max_open_age", "1m0s", "evicted_events_total"},
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
		case f.DefValue != l.value && f.DefValue != strings.TrimSuffix(l.value, "M")+"048576":
			t.Errorf("--%s is %s by default, %s in the example", name, f.DefValue, l.value)
		}
		if !strings.Contains(string(metrics), "| `auditfleet_collector_"+l.counter+"` |") {
			t.Errorf("%s: no metric auditfleet_collector_%s is documented", l.key, l.counter)
		}
	}
}
