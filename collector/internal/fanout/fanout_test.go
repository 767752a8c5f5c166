package fanout

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A plugin gets whole events in their order: at once where much is gathered, soon
// otherwise, and the last ones at the end.
func TestFanout(t *testing.T) {
	dir := t.TempDir()
	out, script := filepath.Join(dir, "out"), filepath.Join(dir, "plugin")
	if err := need.Program(script, []byte("#!/bin/sh\nexec cat >"+out+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := conf.DefaultPlugin()
	p.Name, p.Active, p.Path, p.Format = "cat", true, script, conf.FormatString
	f, err := Open(dispatch.Config{Settings: dispatch.Settings{Depth: 100000, Overflow: conf.DoIgnore}, Plugins: []conf.Plugin{p}})
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	n := 0
	add := func(events int) {
		for range events {
			n++
			first, second := fmt.Sprintf("type=SYSCALL msg=audit(1.000:%d): a", n), fmt.Sprintf("type=CWD msg=audit(1.000:%d): %s", n, strings.Repeat("b", 1000))
			fmt.Fprintf(&want, "%s\n%s\n", first, second)
			f.Add("web1", &event.Event{Records: []record.Record{{Type: 1300, Raw: []byte(first)}, {Type: 1307, Raw: []byte(second)}}})
		}
	}
	arrived := func(what string, bytes int) {
		t.Helper()
		need.Wait(t, what, func() bool {
			info, err := os.Stat(out)
			return err == nil && info.Size() >= int64(bytes)
		})
	}
	add(2 * maxBytes / 1000)
	arrived("much is handed on at once", maxBytes)
	for range 3 {
		add(1)
		arrived("little is handed on soon", want.Len())
	}
	add(1)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(out); err != nil || string(got) != want.String() {
		t.Errorf("the plugin has %d bytes, want %d; %v", len(got), want.Len(), err)
	}
}

// Without plugins nothing is gathered.
func TestNoPlugins(t *testing.T) {
	f, err := Open(dispatch.Config{Settings: dispatch.Settings{Depth: 10, Overflow: conf.DoIgnore}})
	if err != nil {
		t.Fatal(err)
	}
	f.Add("web1", &event.Event{Records: []record.Record{{Raw: []byte("x")}}})
	if f.batch != nil {
		t.Error("an event is gathered for nobody")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
