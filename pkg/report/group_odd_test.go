package report

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// TestGroupOddValues: values may have any bytes: two of them are no third one, none is missing, and none is a name.
func TestGroupOddValues(t *testing.T) {
	t.Parallel()
	var records []string
	for i, v := range [][2]string{{"comm=610062", "exe=63"}, {"comm=61", "exe=620063"}, {"comm=01", `exe="x"`}, {"", `exe="x"`}, {"comm=0261", `exe="x"`}, {"comm=03", "exe=00"}} {
		records = append(records, byCall(string(rune('1'+i)), `comm="cupsd"`, v[0], `exe="/usr/sbin/cupsd"`, v[1]))
	}
	events := eventsOf(strings.Join(records, "\n") + "\n")
	scan := func(_ context.Context, _ *query.Query, fn func(*event.Event) error) error {
		for _, ev := range events {
			if err := fn(ev); err != nil {
				return err
			}
		}
		return nil
	}
	comm, exe := By{Name: "comm", Field: query.FieldComm}, By{Name: "exe", Field: query.FieldExe}
	for _, tt := range []struct {
		by   []By
		want []string
	}{
		{[]By{comm, exe}, []string{`{"comm": "\u0001", "exe": "x", "events": 1}`, `{"comm": "\u0002a", "exe": "x", "events": 1}`, `{"comm": "\u0003", "exe": "\u0000", "events": 1}`,
			`{"comm": "a", "exe": "b\u0000c", "events": 1}`, `{"comm": "a\u0000b", "exe": "c", "events": 1}`, `{"comm": null, "exe": "x", "events": 1}`}},
		{[]By{comm}, []string{`{"comm": "\u0001", "events": 1}`, `{"comm": "\u0002a", "events": 1}`, `{"comm": "\u0003", "events": 1}`, `{"comm": "a", "events": 1}`, `{"comm": "a\u0000b", "events": 1}`, `{"comm": null, "events": 1}`}},
	} {
		for _, every := range []time.Duration{0, time.Hour} {
			o := &Options{Group: &Group{By: tt.by, Every: every}, Format: FormatJSON}
			if _, d := tallyOrRead(t, o, events); d != "" {
				t.Errorf("by %d, every %v (-read +counted):\n%s", len(tt.by), every, d)
			}
			if every != 0 {
				continue
			}
			var out bytes.Buffer
			if _, err := run(t.Context(), o, time.UTC, Source{Scan: scan}, &out); err != nil {
				t.Fatal(err)
			}
			got := strings.Split(strings.TrimSpace(out.String()), "\n")
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("by %d:\n%s\nwant\n%s", len(tt.by), strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		}
	}
}
