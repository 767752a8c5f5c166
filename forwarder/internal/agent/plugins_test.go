package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/forwarder/internal/witness"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/metrics/metricstest"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// script makes a plugin of a shell script.
func script(t *testing.T, dir, name, text string) conf.Plugin {
	t.Helper()
	path := dir + "/" + name
	if err := need.Program(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return conf.Plugin{Name: name, Active: true, Path: path, Type: conf.PluginAlways, Format: conf.FormatString}
}

// hanging makes a plugin that neither reads nor ends at SIGTERM. It waits by itself:
// a program that it waited for would outlive it.
func hanging(t *testing.T, dir string) conf.Plugin {
	t.Helper()
	if err := unix.Mkfifo(dir+"/never", 0o600); err != nil {
		t.Fatal(err)
	}
	return script(t, dir, "stuck", "trap '' TERM; exec 3<>"+dir+"/never; read line <&3")
}

// Every metric is documented, with its help text and labels, and nothing is
// documented that is not there.
func TestMetricsAreDocumented(t *testing.T) {
	dir := t.TempDir()
	w, err := witness.New(witness.Config{Spool: dir + "/spool"})
	if err != nil {
		t.Fatal(err)
	}
	s := startAgent(t, fake(fakekernel.New(), Config{
		Log: locallog.Config{Path: dir + "/log/audit.log"}, Spool: spool.Options{Dir: dir + "/spool"}, Ship: shipTo(newCollector(t).addr), HTTP: "127.0.0.1:0", Names: nss.New(nss.Config{}), Witness: w,
		Plugins: &dispatch.Config{Settings: dispatch.Settings{Depth: 100, Overflow: conf.DoIgnore}, Plugins: []conf.Plugin{script(t, dir, "p", "exec cat >/dev/null")}},
	}))
	metricstest.Documented(t, s.cfg.Metrics, "auditfleet_forwarder_")
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
}

// Plugins get what the log gets and the EOE records, from the first record to the
// last, enriched where the log is; one that hangs delays neither the log, nor the
// other, nor shipping, and what it did not get is counted.
func TestPlugins(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := fakekernel.New()
	c := newCollector(t)
	s := startAgent(t, fake(k, Config{
		Node: "web1", Version: "1.2", Log: locallog.Config{Path: dir + "/log/audit.log"}, Ship: shipTo(c.addr), Spool: spool.Options{Dir: dir + "/spool"},
		Enrich: func(dst []byte, r *record.Record) []byte {
			return fmt.Appendf(dst, "\x1dTYPE=%q", r.TypeName)
		},
		Plugins: &dispatch.Config{
			Settings: dispatch.Settings{Depth: 5000, Overflow: conf.DoIgnore}, StopTimeout: 2 * time.Second,
			Plugins: []conf.Plugin{script(t, dir, "good", "exec cat >"+dir+"/out"), hanging(t, dir)},
		},
	}))
	const n = 10000
	body := strings.Repeat(" ", 600) // more than the queue of the one that hangs holds
	for i := range n {
		k.Emit(1300, fmt.Sprint("syscall ", i, body))
		k.Emit(1320, "")
		if i%1000 == 999 {
			wait(t, "log and plugin keep up", func() bool { return s.log.Load().Stats().Records >= uint64(i) && s.plugins.Stats()[0].Queued < 100 })
		}
	}
	wait(t, "each record is delivered, queued or counted, for each plugin", func() bool {
		for _, p := range s.plugins.Stats() {
			if total := s.pump.records.Load() + s.pump.eoe.Load(); total < 2*n || p.Delivered+p.Dropped+uint64(p.Queued) != total {
				return false
			}
		}
		return true
	})
	if good, stuck := s.plugins.Stats()[0], s.plugins.Stats()[1]; good.Dropped > 0 || stuck.Dropped == 0 {
		t.Errorf("good %+v, stuck %+v", good, stuck)
	}
	s.stop()
	if err := s.end(t); err != nil { // it waits for StopTimeout, not for the plugin
		t.Fatal(err)
	}
	var eoe int
	var rest []string
	for _, l := range fileLines(t, dir+"/out") {
		if strings.Contains(l, "type=EOE ") {
			eoe++
			continue
		}
		rest = append(rest, l)
	}
	log := fileLines(t, dir+"/log/audit.log")
	if diff := cmp.Diff(log, c.got()); diff != "" {
		t.Errorf("the log and the collector differ: %.1000s", diff)
	}
	if diff := cmp.Diff(log, rest); diff != "" {
		t.Errorf("the log and the plugin differ: %.1000s", diff)
	}
	if eoe != n || len(log) < n+2 || !strings.Contains(log[0], "type=DAEMON_START") || !strings.Contains(log[len(log)-1], "type=DAEMON_END") || !strings.HasSuffix(log[0], "\x1dTYPE=\"DAEMON_START\"") {
		t.Errorf("%d EOE, %d records, from %q to %q", eoe, len(log), log[0], log[len(log)-1])
	}
}
