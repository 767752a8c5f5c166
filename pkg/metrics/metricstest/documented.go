// Package metricstest compares METRICS.md with what a daemon exports. Tests of the
// daemons may import it.
package metricstest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// Documented fails unless every metric of ours is in METRICS.md as it is, with its
// type, labels and help, and no other whose name begins with one of the prefixes.
// METRICS_TABLE=1 logs the table as it should be.
func Documented(t *testing.T, from prometheus.Gatherer, prefixes ...string) {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "auditfleet_") {
			continue
		}
		var labels []string
		if m := f.GetMetric(); len(m) > 0 {
			for _, l := range m[0].GetLabel() {
				labels = append(labels, l.GetName())
			}
		}
		have = append(have, fmt.Sprintf("| `%s` | %s | %s | %s |", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp()))
	}
	if os.Getenv("METRICS_TABLE") != "" {
		t.Log("\n" + strings.Join(have, "\n"))
	}
	if diff := cmp.Diff(documented(t, prefixes), have); diff != "" {
		t.Errorf("METRICS.md and what is exported differ (-documented +exported):\n%s", diff)
	}
}

func documented(t *testing.T, prefixes []string) (rows []string) {
	t.Helper()
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("where METRICS.md is, is not known")
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "METRICS.md"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(line, "| `"+p) }) {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	return rows
}
