// Package metricstest reads what a daemon exports, and compares METRICS.md with it.
// Only tests import it.
package metricstest

import (
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/golden"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// Text is what a scrape gets of the metrics that are ours.
func Text(t testing.TB, r *metrics.Registry) string {
	t.Helper()
	rec := httptest.NewRecorder()
	r.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 200 {
		t.Fatalf("scrape: %d: %s", rec.Code, rec.Body)
	}
	var ours []string
	for line := range strings.Lines(rec.Body.String()) {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "auditfleet_") {
			ours = append(ours, strings.TrimSpace(line))
		}
	}
	return strings.Join(ours, "\n")
}

// Value is the sum of a metric's series, or of those with a label such as reason="idle".
// A metric that is not there is an error.
func Value(t testing.TB, r *metrics.Registry, name, label string) float64 {
	t.Helper()
	sum, found := 0.0, false
	for line := range strings.SplitSeq(Text(t, r), "\n") {
		series, value, _ := strings.Cut(line, " ")
		if base, labels, _ := strings.Cut(series, "{"); base != name || !strings.Contains(labels, label) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum, found = sum+n, true
	}
	if !found {
		t.Fatalf("no metric %s{%s}", name, label)
	}
	return sum
}

// Documented fails unless METRICS.md has every metric of ours as it is exported, with
// its type, labels and help, and no other whose name begins with one of the prefixes.
// Each prefix has rows one below the other; with -update they are written again.
func Documented(t testing.TB, r *metrics.Registry, prefixes ...string) {
	t.Helper()
	file := need.Source(t, "pkg/metrics/METRICS.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	isRow := func(line string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(line, "| `"+p) })
	}
	var b strings.Builder
	rows := rows(Text(t, r))
	for line := range strings.Lines(string(text)) {
		if !isRow(line) {
			b.WriteString(line)
			continue
		}
		b.WriteString(rows)
		rows = "" // all of them stand where the first was
	}
	golden.Compare(t, file, b.String())
}

// rows are the table's, in the order of the names.
func rows(text string) string {
	var b strings.Builder
	help := ""
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if h, ok := strings.CutPrefix(line, "# HELP "); ok {
			_, help, _ = strings.Cut(h, " ")
		}
		typed, ok := strings.CutPrefix(line, "# TYPE ")
		if !ok {
			continue
		}
		name, kind, _ := strings.Cut(typed, " ")
		label := ""
		if series, labels, has := strings.Cut(lines[i+1], "{"); has && series == name {
			label = labelNames(labels)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, kind, label, help)
	}
	return b.String()
}

// labelNames returns the names of a series' labels, without a histogram's own.
func labelNames(labels string) string {
	var names []string
	for _, m := range regexp.MustCompile(`(?:^|,)([a-z_]+)="`).FindAllStringSubmatch(labels, -1) {
		if m[1] != "le" {
			names = append(names, m[1])
		}
	}
	return strings.Join(names, ", ")
}
