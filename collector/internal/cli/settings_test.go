package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/collector/internal/sink"
	"github.com/auditfleet/auditfleet/internal/golden"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/settings"
	"github.com/auditfleet/auditfleet/pkg/settings/settingstest"
	"github.com/auditfleet/auditfleet/pkg/settings/texts"
)

const exampleHead = `# The collector's configuration: auditd.conf's grammar, its server keys, and ours.
# Every key a collector acts on is here, but for stock keys that have a better word of
# ours. What is set has the default's value, but for tcp_client_max_idle; what stands
# behind "#" has no value by default.
# SIGHUP reads the file again. What takes effect at the next start only is marked
# (restart), a key or a section; the log then names those that have changed.
`

// What is made from the table is as the table has it: the example file, the lists of the
// manual pages, and the names that a forwarder takes in a file that both programs read.
func TestMadeFromTheTable(t *testing.T) {
	table := newOptions().table()
	sinks := new(sink.Settings).Table()
	sinks.Defaults()
	golden.Compare(t, "../../../deploy/collector.conf", exampleHead+texts.ExampleFile(table))
	golden.ComparePart(t, "../../../deploy/man/collector.conf.5", "keys", texts.ManKeys(table))
	golden.ComparePart(t, "../../../deploy/man/collector.conf.5", "sinks", texts.ManKeys(sinks))
	asking := new(client).table()
	asking.Defaults()
	golden.ComparePart(t, "../../../deploy/man/collector-client.conf.5", "keys", texts.ManKeys(asking))
	golden.ComparePart(t, "../../../deploy/man/collector-serve.8", "options", texts.ManOptions(table, true))
	var names strings.Builder
	stock := conf.DefaultAuditd()
	host := append(stock.Schema(), stock.OwnHostKeys()...).Names()
	for _, name := range table.Schema().Names() {
		if !slices.Contains(host, name) {
			names.WriteString("\t\"" + name + "\",\n")
		}
	}
	golden.ComparePart(t, "../../../pkg/conf/collector_keys.go", "names", names.String())
}

// configured is what a file's text and flags configure.
func configured(t *testing.T, text string, args ...string) (*options, *conf.File, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "collector.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	newOptions().table().AddFlags(flags)
	if err := flags.Parse(append(args, "--config", file)); err != nil {
		return nil, nil, err
	}
	return configure(flags)
}

// another is a value for a setting that is not the one it has.
func another(t *testing.T, s settings.Setting) string {
	t.Helper()
	for _, v := range append(s.OneOf, "127.0.0.1:6060", "127.0.0.2", "11%", "3", "2", "31s", "3M", "/other", "other", "psk", "pqc", "TLS_AES_128_GCM_SHA256", "X25519", "off", "web*: 3d") {
		before := s.Get()
		if s.Set(v) == nil && s.Get() != before {
			return v
		}
	}
	t.Fatalf("no other value for %s", s.Name)
	return ""
}

// Every setting that needs a restart is named when another value is read at SIGHUP, and
// no other one.
func TestWhatNeedsARestart(t *testing.T) {
	changed := func(text string) []string {
		t.Helper()
		o, _, err := configured(t, text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return settings.Changed(newOptions().table(), o.table())
	}
	for s := range newOptions().table().All() {
		if s.In == settings.FlagOnly || s.Effect != settings.Acts || s.For != "" {
			continue
		}
		var want []string
		if s.Restart {
			want = []string{s.Name}
		}
		text := s.Name + " = " + another(t, s)
		if diff := cmp.Diff(want, changed(text)); diff != "" {
			t.Errorf("%s: need a restart (-want +got):\n%s", text, diff)
		}
	}
	// A stock key counts by what it does.
	for text, want := range map[string][]string{
		"tcp_listen_port = 61":                         {"listen"},
		"listen = :60\ntcp_listen_port = 61":           nil,
		"name_format = user\nname = hub":               {"node"},
		"name_format = user\nname = hub\nnode = other": {"node"},
		"name = hub": nil,
	} {
		if diff := cmp.Diff(want, changed(text)); diff != "" {
			t.Errorf("%s: need a restart (-want +got):\n%s", text, diff)
		}
	}
}

func TestFlagsAndKeysAreSpelledAlike(t *testing.T) {
	settingstest.Same(t, func() settings.Table { return newOptions().table() }, settings.Table.Schema)
}
