package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

const (
	alertRules = "deploy/prometheus/auditfleet.rules.yml"
	ruleTests  = "deploy/prometheus/auditfleet.rules.test.yml"
	dashboard  = "deploy/grafana/auditfleet.json"
)

// metricsOf returns the names that METRICS.md has, which tests compare with what the programs export;
// of histograms, those of their series.
func metricsOf(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(need.Source(t, "pkg/metrics/METRICS.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(auditfleet_[a-z_]+)` \\| ([a-z]+) \\|").FindAllStringSubmatch(string(text), -1) {
		if m[2] == "histogram" {
			known[m[1]+"_bucket"], known[m[1]+"_sum"], known[m[1]+"_count"] = true, true, true
			continue
		}
		known[m[1]] = true
	}
	if len(known) < 100 {
		t.Fatalf("METRICS.md has only %d metrics", len(known))
	}
	return known
}

// TestMonitoredMetricsExist compares the metrics that alert rules, their tests and the dashboard ask for with those that there are.
func TestMonitoredMetricsExist(t *testing.T) {
	known, name := metricsOf(t), regexp.MustCompile(`auditfleet_[a-z_]+`)
	for _, file := range []string{alertRules, ruleTests, dashboard} {
		text, err := os.ReadFile(need.Source(t, file))
		if err != nil {
			t.Fatal(err)
		}
		asked := name.FindAllString(string(text), -1)
		if len(asked) < 5 {
			t.Errorf("%s asks only for %v", file, asked)
		}
		for _, m := range asked {
			if !known[m] {
				t.Errorf("%s asks for %s, which is not in METRICS.md", file, m)
			}
		}
	}
}

// TestEveryAlertHasExamples looks that promtool is shown each rule firing, with what it says, and not firing.
func TestEveryAlertHasExamples(t *testing.T) {
	read := func(file string) string {
		text, err := os.ReadFile(need.Source(t, file))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	rules, tests := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(read(alertRules), -1), read(ruleTests)
	if len(rules) < 15 {
		t.Fatalf("only %d rules", len(rules))
	}
	for _, r := range rules {
		if !strings.Contains(tests, "alertname: "+r[1]+"\n        exp_alerts:\n          - exp_labels:") {
			t.Errorf("no example in which %s fires", r[1])
		}
		if !strings.Contains(tests, "alertname: "+r[1]+", exp_alerts: []}") {
			t.Errorf("no example in which %s does not fire", r[1])
		}
	}
}

// panel is one of the dashboard's.
type panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ H, W, X, Y int }
	Targets []struct{ RefID, Expr string }
}

func panels(t *testing.T) []panel {
	t.Helper()
	text, err := os.ReadFile(need.Source(t, dashboard))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title, UID string
		Panels     []panel
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.Title != "auditfleet" || d.UID != "auditfleet" || len(d.Panels) < 20 {
		t.Fatalf("a dashboard %q %q of %d panels", d.Title, d.UID, len(d.Panels))
	}
	return d.Panels
}

// TestDashboard has panels with questions, and none over another.
func TestDashboard(t *testing.T) {
	var ids []int
	taken := map[[2]int]string{}
	for _, p := range panels(t) {
		if slices.Contains(ids, p.ID) || p.Title == "" {
			t.Errorf("panel %d %q: its number is another's, or it has no title", p.ID, p.Title)
		}
		ids = append(ids, p.ID)
		if p.Type == "row" != (len(p.Targets) == 0) {
			t.Errorf("%s %q asks %d questions", p.Type, p.Title, len(p.Targets))
		}
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("%q is at %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%q is over %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// TestPromtool has promtool read the alert rules and every question of the dashboard, and try the rules' examples.
func TestPromtool(t *testing.T) {
	promtool := need.Tool(t, "promtool")
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	run("check", "rules", need.Source(t, alertRules))
	run("test", "rules", need.Source(t, ruleTests))

	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	variables := strings.NewReplacer("$__rate_interval", "5m", "$collector", ".*")
	for _, p := range panels(t) {
		for _, q := range p.Targets {
			fmt.Fprintf(&rules, "      - {record: 'panel:%d:%s', expr: %q}\n", p.ID, strings.ToLower(q.RefID), variables.Replace(q.Expr))
		}
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	run("check", "rules", file)
}
