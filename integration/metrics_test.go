package integration

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// Prometheus' own tool has nothing to say about what both programs export.
func TestPromtoolCheckMetrics(t *testing.T) {
	t.Parallel()
	promtool := need.Tool(t, "promtool")
	check := func(addr string, want string) {
		t.Helper()
		var text []byte
		if !harness.Poll(time.Minute, func() bool {
			r, err := http.Get("http://" + addr + "/metrics")
			if err != nil {
				return false
			}
			defer r.Body.Close()
			text, err = io.ReadAll(r.Body)
			return err == nil
		}) {
			t.Fatalf("no metrics at %s", addr)
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("%s has no %s", addr, want)
		}
		cmd := exec.Command(promtool, "check", "metrics")
		cmd.Stdin = strings.NewReader(string(text))
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", addr, err, out)
		}
	}
	c := startCollector(t, harness.CollectorOptions{})
	check(c.HTTP, "auditfleet_collector_build_info{")
	dir := t.TempDir()
	addr := "127.0.0.1:" + strconv.Itoa(port(t))
	log := filepath.Join(dir, "audit.log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	startForwarder(t, dir, c.Addr(), log, nil, "--follow", "--http", addr, "--report", dir+"/report")
	check(addr, "auditfleet_forwarder_config_last_reload_successful 1\n")
}
