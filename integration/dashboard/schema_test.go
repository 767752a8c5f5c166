// Package dashboard holds deploy/grafana against the schema that Grafana's authors publish as Go types (grafana-foundation-sdk): a Grafana
// itself can't be had from where this project's tools come from. It is a package of its own because those types take long to compile.
package dashboard

import (
	"os"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	grafana "github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"

	"github.com/auditfleet/auditfleet/internal/need"
)

// faults returns what the schema has to say of a dashboard: a field that it does not know, one that it wants, a value of another type.
func faults(text []byte) string {
	var d grafana.Dashboard //nolint:staticcheck // the file is of this form, the classic one
	// Both return an error without words where nothing is wrong.
	for _, err := range []error{d.UnmarshalJSONStrict(text), d.Validate()} {
		if err != nil && err.Error() != "" {
			return err.Error()
		}
	}
	return ""
}

func TestSchema(t *testing.T) {
	runtime := cog.NewRuntime()
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	file, err := os.ReadFile(need.Source(t, "deploy/grafana/auditfleet.json"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(file)
	if f := faults(file); f != "" {
		t.Errorf("deploy/grafana/auditfleet.json:\n%s", f)
	}
	for was, is := range map[string]string{
		`"schemaVersion": 39`:    `"schemaVersion": "39"`,
		`"refresh": "1m"`:        `"refreshes": "1m"`,
		`"expr": "sum(`:          `"expression": "sum(`,
		`"graphMode": "area"`:    `"graph": "area"`,
		`"drawStyle": "line"`:    `"drawStyle": 1`,
		`"colorMode": "value",`:  ``,
		`"displayMode": "list",`: ``,
		`"fillOpacity": 10`:      `"fillOpacity": "10"`,
	} {
		broken := strings.Replace(text, was, is, 1)
		if broken == text || faults([]byte(broken)) == "" {
			t.Errorf("the schema takes %q for %q", is, was)
		}
	}
}
