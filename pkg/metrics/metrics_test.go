package metrics

import (
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
)

// text is what a scrape gets of the metrics that are ours.
func text(t *testing.T, r *Registry) string {
	t.Helper()
	rec := httptest.NewRecorder()
	r.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(rec.Result().Body)
	if err != nil || rec.Code != 200 {
		t.Fatalf("scrape: %d, %v", rec.Code, err)
	}
	var ours []string
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "auditfleet_") {
			ours = append(ours, strings.TrimSpace(line))
		}
	}
	return strings.Join(ours, "\n")
}

func TestHostSeriesAreBounded(t *testing.T) {
	r := New()
	r.Hosts(3, func(yield func(HostSample)) {
		for i := range 10 {
			yield(HostSample{Host: fmt.Sprintf("h%d", i), Records: uint64(i), Bytes: uint64(10 * i), Duplicates: 1, LastSeen: float64(100 - i), LastEvent: 5})
		}
	})
	got := text(t, r)
	for _, want := range []string{
		`auditfleet_host_records_total{host="h9"} 9`,
		`auditfleet_host_records_total{host="h8"} 8`,
		`auditfleet_host_records_total{host="h7"} 7`,
		`auditfleet_host_records_total{host="_other"} 21`, // 0 + 1 + … + 6
		`auditfleet_host_bytes_total{host="_other"} 210`,
		`auditfleet_host_duplicates_total{host="_other"} 7`,
		`auditfleet_host_last_seen_seconds{host="_other"} 100`,
		`auditfleet_host_lag_seconds{host="h9"} 86`,
		`auditfleet_host_lag_seconds{host="_other"} 95`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "auditfleet_host_records_total{"); n != 4 {
		t.Errorf("%d series a name, want 3 hosts and the rest", n)
	}
}

// A label value sent by a host is text from the network.
func TestHostNamesOfAnyBytes(t *testing.T) {
	r := New()
	r.Hosts(10, func(yield func(HostSample)) {
		yield(HostSample{Host: "a\"b\nc", Records: 1})
		yield(HostSample{Host: "\xff\xfe", Records: 2})
		yield(HostSample{Host: `\xff\xfe`, Records: 3})
		yield(HostSample{Host: OtherHosts, Records: 4})
	})
	got := text(t, r)
	for _, want := range []string{
		`auditfleet_host_records_total{host="a\"b\nc"} 1`,
		`auditfleet_host_records_total{host="\\xff\\xfe"} 5`, // two that look the same
		`auditfleet_host_records_total{host="\"_other\""} 4`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

func TestReasonsAreThereFromTheStart(t *testing.T) {
	r := New()
	c := r.ByReason("auditfleet_x_total", "Help.", "reason", "a", "b")
	c.Add("b", 2)
	c.Add("new", 1)
	want := "auditfleet_x_total{reason=\"a\"} 0\nauditfleet_x_total{reason=\"b\"} 2\nauditfleet_x_total{reason=\"new\"} 1"
	if got := text(t, r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
