package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/syslog"
)

// plugin is a program of plugins.d that is a shell script.
func plugin(t *testing.T, name string, format conf.Format, script string) conf.Plugin {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := need.Program(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := conf.DefaultPlugin()
	p.Name, p.Active, p.Path, p.Format = name, true, path, format
	return p
}

// Plugins get what the fleet sends, as they would from a stock server: the
// records of all hosts as they were sent, in either format, each once.
func TestPluginsGetTheFleetsRecords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text, bin := filepath.Join(dir, "text"), filepath.Join(dir, "binary")
	cfg := testConfig(shortDir(t))
	cfg.Limits.MaxPerAddr = 10
	cfg.Plugins = Plugins{
		Settings: dispatch.Settings{Depth: 10000, Overflow: conf.DoSyslog, MaxRestarts: 1},
		List: []conf.Plugin{
			plugin(t, "text", conf.FormatString, "cat >>"+text),
			plugin(t, "binary", conf.FormatBinary, "cat >>"+bin),
		},
		Problem: errors.New("plugins.d/bad.conf:1: nonsense"),
	}
	r := start(t, cfg)
	var sent []string
	for _, host := range []string{"web1", "web2"} {
		c := r.dial()
		var records []string
		for i := range 300 {
			records = append(records, userRecord(host, i))
		}
		exchange(t, c, 1, records...)
		exchange(t, c, 1000, records...) // legitimate: the same text again, with other numbers
		sent = append(append(sent, records...), records...)
	}
	eventually(t, "all are handed on", func() bool {
		_, body := get(t, r, "/metrics")
		return !strings.Contains(body, "plugin_records_total{plugin=\"text\"} 0\n") && len(ofFleet(lines(text))) == len(sent)
	})
	r.stop()
	count := func(list []string) map[string]int {
		m := map[string]int{}
		for _, l := range list {
			m[l]++
		}
		return m
	}
	if diff := cmp.Diff(count(sent), count(ofFleet(lines(text)))); diff != "" {
		t.Errorf("as text (-sent +got):\n%s", diff)
	}
	all, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	var fromBinary []string
	for ; len(all) >= 16+8970; all = all[16+8970:] {
		size := binary.NativeEndian.Uint32(all[12:])
		line := string(all[16 : 16+size])
		fromBinary = append(fromBinary, line)
		if typ := binary.NativeEndian.Uint32(all[8:]); strings.Contains(line, "type=USER_LOGIN") && typ != 1112 {
			t.Fatalf("type %d for %s", typ, line)
		}
	}
	if diff := cmp.Diff(lines(text), fromBinary); diff != "" || len(all) > 0 {
		t.Errorf("as binary (-text +binary), %d bytes left:\n%s", len(all), diff)
	}
	for _, want := range []string{"DAEMON_START", "DAEMON_ACCEPT", "DAEMON_END"} {
		if !strings.Contains(strings.Join(fromBinary, "\n"), want) {
			t.Errorf("the collector's own %s was not handed on", want)
		}
	}
	if !strings.Contains(r.log.String(), "plugins.d/bad.conf:1: nonsense") {
		t.Error("a bad plugin file is not said")
	}
}

func lines(path string) []string {
	text, _ := os.ReadFile(path) // not there yet: none
	var out []string
	for l := range bytes.Lines(text) {
		out = append(out, strings.TrimSuffix(string(l), "\n"))
	}
	return out
}

func ofFleet(all []string) (out []string) {
	for _, l := range all {
		if strings.HasPrefix(l, "node=web") {
			out = append(out, l)
		}
	}
	return out
}

// A plugin that takes nothing loses what its queue has no room for, which is
// counted; senders have their acknowledgements all the same. New ones come with a
// new configuration.
func TestPluginThatDoesNotRead(t *testing.T) {
	t.Parallel()
	cfg := testConfig(shortDir(t))
	cfg.Action.Syslog = func(syslog.Priority, []byte) error { return nil }
	cfg.Plugins = Plugins{
		Settings: dispatch.Settings{Depth: 600, Overflow: conf.DoSuspend},
		List:     []conf.Plugin{plugin(t, "stuck", conf.FormatString, "exec sleep 1000")},
	}
	r := start(t, cfg)
	c := r.dial()
	seq := uint32(0)
	eventually(t, "it is suspended", func() bool {
		var records []string
		for range 500 {
			seq++
			records = append(records, userRecord("web1", int(seq)))
		}
		exchange(t, c, seq-499, records...)
		st := r.fanout.Stats()
		return len(st) == 1 && st[0].Suspended && st[0].Dropped > 0
	})
	if _, body := get(t, r, "/metrics"); !strings.Contains(body, "auditfleet_collector_plugin_up{plugin=\"stuck\"} 0\n") {
		t.Error("it counts as up")
	}
	r.Resume()
	if st := r.fanout.Stats(); st[0].Suspended {
		t.Error("it is suspended after a resume")
	}
	out := filepath.Join(t.TempDir(), "out")
	next := r.cfg
	next.Plugins.List = []conf.Plugin{plugin(t, "good", conf.FormatString, "cat >"+out)}
	if err := r.Reconfigure(next); err != nil {
		t.Fatal(err)
	}
	exchange(t, c, seq+1, userRecord("web1", 99))
	eventually(t, "the new one has it", func() bool { return strings.Contains(fmt.Sprint(lines(out)), userRecord("web1", 99)) })
	next.Plugins.Overflow = conf.DoHalt
	if err := r.Reconfigure(next); !errors.Is(err, action.ErrHalt) {
		t.Errorf("overflow_action = halt without --allow-halt: %v", err)
	}
}
