package conf

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// The files the stock packages install must be read without a word.
func TestShippedFiles(t *testing.T) {
	need.Stock(t, "audisp-remote")
	need.Root(t)
	a, f, err := LoadAuditd("/etc/audit/auditd.conf")
	if err != nil || len(f.Warnings) > 0 {
		t.Fatalf("%v, warnings %v", err, f.Warnings)
	}
	if a.NumLogs != 5 || a.SpaceLeft.MiB != 75 || a.MaxLogFileAction.Do != DoRotate || a.QDepth != 2000 {
		t.Errorf("auditd.conf: %+v", a)
	}
	r, f, err := LoadRemote("/etc/audit/audisp-remote.conf")
	if err != nil || len(f.Warnings) > 0 {
		t.Fatalf("%v, warnings %v", err, f.Warnings)
	}
	if len(r.Servers) != 0 || !f.Has("remote_server") || r.QueueDepth != 10240 || r.NetworkFailureAction.Do != DoStop {
		t.Errorf("audisp-remote.conf: %+v", r)
	}
	files, err := filepath.Glob("/etc/audit/plugins.d/*.conf")
	if err != nil || len(files) < 3 {
		t.Fatalf("plugins.d: %v %v", files, err)
	}
	plugins, err := LoadPlugins("/etc/audit/plugins.d")
	if err != nil || len(plugins) != len(files) {
		t.Fatalf("%d of %d plugins: %v", len(plugins), len(files), err)
	}
	for _, p := range plugins {
		if p.Name == "af_unix" && (p.Type != PluginBuiltin || len(p.Args) != 2 || p.Args[0] != "0640") {
			t.Errorf("af_unix: %+v", p)
		}
	}
	if _, err := os.Stat("/etc/audit/plugins.d/au-remote.conf"); err != nil {
		t.Error(err)
	}
}
