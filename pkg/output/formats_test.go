package output

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/golden"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
)

// TestFormats compares a log in every format with the golden file. What the stock tool
// has is compared with that in package search.
func TestFormats(t *testing.T) {
	log, err := os.ReadFile(need.Source(t, "pkg/record/testdata/samples.log"))
	if err != nil {
		t.Fatal(err)
	}
	events := eventtest.Parse(log)
	events[0].From = &event.Sender{Host: "web1", Addr: netip.MustParseAddr("192.0.2.1"), Transport: event.TransportTCP}
	var all strings.Builder
	for _, c := range []struct {
		name string
		Config
	}{
		{"default", Config{}}, {"raw", Config{Format: FormatRaw}}, {"interpret", Config{Format: FormatInterpret}},
		{"csv", Config{Format: FormatCSV}}, {"text", Config{Format: FormatText}}, {"json", Config{Format: FormatJSON, Words: true}},
		{"csv with everything", Config{Format: FormatCSV, ExtraKeys: true, ExtraLabels: true, ExtraObj2: true, ExtraTime: true, CSVSafe: true, Locale: "de_DE"}},
		{"host and colour", Config{Color: true, WithHost: true}}, {"host and colour, as it is", Config{Format: FormatInterpret, Color: true, WithHost: true, Bare: true}},
		{"host", Config{WithHost: true}},
	} {
		if got := FormatNames()[c.Format]; got != c.Format.String() {
			t.Errorf("format %d: %s and %s", c.Format, got, c.Format)
		}
		var out bytes.Buffer
		c.Names = rootOnly{}
		w := NewWriter(&out, &c.Config, time.UTC)
		for i, ev := range events {
			w.(Marker).Mark(i == 1)
			if err := w.Event(ev); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "# %s\n%s", c.name, strings.ReplaceAll(out.String(), "\x1b", "<ESC>"))
	}
	golden.Compare(t, "testdata/formats.golden", all.String())
}
