package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// prometheusConf scrapes a collector and a forwarder, named as docs/operations.md has them, and itself: the dashboard must not take it for a collector.
const prometheusConf = `global: {scrape_interval: 1s}
rule_files: [%q]
scrape_configs:
  - {job_name: auditfleet-collector, static_configs: [{targets: [%q]}]}
  - {job_name: auditfleet-forwarder, static_configs: [{targets: [%q]}]}
  - {job_name: prometheus, static_configs: [{targets: [%q]}]}
`

// series is an answer of Prometheus.
type series struct {
	Metric map[string]string
	Value  [2]any
}

func (s series) number() bool {
	text, _ := s.Value[1].(string)
	v, err := strconv.ParseFloat(text, 64)
	return err == nil && !math.IsNaN(v)
}

// ask has a Prometheus answer, as Grafana does for a panel.
func ask(addr, expr string) ([]series, error) {
	r, err := http.Get("http://" + addr + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Status string
		Data   struct{ Result []series }
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.Status != "success" {
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	return answer.Data.Result, nil
}

// TestDashboardHasData has a real Prometheus scrape a real collector and forwarder, and asks it what each panel of the dashboard asks.
func TestDashboardHasData(t *testing.T) {
	t.Parallel()
	program := need.Tool(t, "prometheus")
	dir := t.TempDir()
	sinks := filepath.Join(dir, "sinks.d")
	if err := os.Mkdir(sinks, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(sinks, "true.conf"), "type = exec\nprogram = /bin/true\n")
	key, conf := filepath.Join(dir, "key"), filepath.Join(dir, "collector.conf")
	if r, err := harness.Run(time.Minute, binaries(t).Collector, "seal", "init", "--key", key, "--name", "hub1"); err != nil || r.Code != 0 {
		t.Fatalf("seal init: %v %+v", err, r)
	}
	write(conf, "alert_interval = 1s\nalert_sinks = "+sinks+"\nseal_key = "+key+"\n")
	c := startCollector(t, harness.CollectorOptions{Store: filepath.Join(dir, "store"), Args: []string{"--config", conf}})

	// A log that grows until the test ends.
	log, forwarder, self := filepath.Join(dir, "audit.log"), "127.0.0.1:"+strconv.Itoa(port(t)), "127.0.0.1:"+strconv.Itoa(port(t))
	lines := realLog(t, harness.RecordedEnriched(), harness.Make{Seed: 5, Records: 20_000, Nodes: []string{"app1"}})
	write(log, "")
	done := make(chan struct{})
	var growing sync.WaitGroup
	growing.Go(func() {
		f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		for i := 0; ; i = (i + 10) % (len(lines) - 10) {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
			if _, err := f.WriteString(strings.Join(lines[i:i+10], "\n") + "\n"); err != nil {
				t.Error(err)
				return
			}
		}
	})
	t.Cleanup(func() { close(done); growing.Wait() })
	startForwarder(t, dir, c.Addr(), log, nil, "--follow", "--http", forwarder, "--report", dir+"/report")

	config := filepath.Join(dir, "prometheus.yml")
	write(config, fmt.Sprintf(prometheusConf, need.Source(t, alertRules), c.HTTP, forwarder, self))
	p, err := harness.Start(harness.Spec{Name: "prometheus", Args: []string{program, "--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "tsdb"), "--web.listen-address=" + self}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)

	for _, panel := range panels(t) {
		// Without the kernel as its source a forwarder has nothing to say of a backlog.
		if panel.Title == "Kernel's backlog, of its limit" {
			continue
		}
		for _, q := range panel.Targets {
			// What is to be seen only when something is wrong is asked for without that bound.
			expr := strings.NewReplacer("$__rate_interval", "15s", "$collector", ".*").Replace(strings.TrimSuffix(q.Expr, " > 0"))
			var answer []series
			if !harness.Poll(time.Minute, func() bool {
				if answer, err = ask(self, expr); err != nil {
					return false
				}
				for _, s := range answer {
					if s.number() {
						return true
					}
				}
				return false
			}) {
				t.Errorf("%q has no number for %s: %v, %v", panel.Title, expr, answer, err)
			}
			for _, s := range answer {
				if at, ok := s.Metric["instance"]; ok && at != c.HTTP && (at != forwarder || !strings.Contains(expr, "auditfleet_forwarder")) {
					t.Errorf("%q shows %s for %s", panel.Title, at, expr)
				}
			}
		}
	}
}
