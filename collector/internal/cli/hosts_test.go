package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// someHosts are a lively one, one that was not heard of for long, one that catches
// up, the collector's own and the one for all others, at a time.
func someHosts(now time.Time) []*fleet.Host {
	ago := func(d time.Duration) int64 { return now.Add(-d).UnixMilli() }
	rate := 12.3456
	lag := func(ms int64) *int64 { return &ms }
	return []*fleet.Host{
		{Name: nil, Addresses: []string{"10.0.0.9"}, LastSeenMs: ago(time.Minute), Records: 7},
		{Name: []byte("busy\x1b[2J"), Addresses: []string{"10.0.0.1"}, Connected: true, FirstSeenMs: ago(48 * time.Hour),
			LastSeenMs: ago(time.Second), LastEventMs: ago(1500 * time.Millisecond), Records: 1000, Bytes: 5 << 20, Rate: &rate, LagMs: lag(500)},
		{Name: []byte("gone"), Addresses: []string{"10.0.0.2"}, LastSeenMs: ago(50 * time.Hour), LastEventMs: ago(50*time.Hour + 1), Records: 3, LagMs: lag(1)},
		{Name: []byte("hub"), LastSeenMs: ago(90 * time.Hour), LastEventMs: ago(90 * time.Hour), Records: 5, LagMs: lag(0)},
		{Name: []byte("late"), Addresses: []string{"10.0.0.3"}, Connected: true, LastSeenMs: ago(0), LastEventMs: ago(3 * time.Hour), Records: 3, LagMs: lag(3 * 3600 * 1000)},
		{Name: []byte("stuck"), Addresses: []string{"10.0.0.4"}, Connected: true, LastSeenMs: ago(61 * time.Minute), Records: 1},
	}
}

func listed(after time.Duration, only bool) *hostList {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	l := &hostList{now: now, silentAfter: after, onlySilent: only}
	l.add(someHosts(now))
	return l
}

func TestHostsTable(t *testing.T) {
	var out bytes.Buffer
	l := listed(time.Hour, false)
	if err := l.table(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, want := range []string{
		"HOST ADDRESS STATE FIRST", "(others) 10.0.0.9 disconnected - ", `busy\033[2J 10.0.0.1 connected 2026-11-20 `,
		"gone 10.0.0.2 SILENT 2d2h ", "hub - disconnected - ", "late 10.0.0.3 connected - ", "stuck 10.0.0.4 SILENT 1h1m ",
	} {
		if got := strings.Join(strings.Fields(lines[i]), " "); !strings.HasPrefix(got, want) {
			t.Errorf("line %d: %q, want it to begin %q", i, got, want)
		}
	}
	if !strings.Contains(lines[2], " 12.3/s ") || !strings.Contains(lines[5], " 3h0m ") {
		t.Errorf("rate or lag are missing:\n%s", &out)
	}
	l.bold = true
	plain := out.String()
	out.Reset()
	if err := l.table(&out); err != nil {
		t.Fatal(err)
	}
	marked := 0
	for line := range strings.Lines(out.String()) {
		if rest, ok := strings.CutPrefix(line, "\x1b[1;31m"); ok {
			marked++
			if !strings.Contains(rest, "SILENT") {
				t.Errorf("in bold: %q", line)
			}
		}
	}
	if bare := strings.NewReplacer("\x1b[1;31m", "", "\x1b[0m", "").Replace(out.String()); marked != 2 || bare != plain {
		t.Errorf("%d lines in bold; without the marks:\n%s", marked, bare)
	}
}

func TestHostsStates(t *testing.T) {
	l := listed(time.Hour, false)
	got := map[string]string{}
	for _, r := range l.rows {
		got[r.Host] = r.State
	}
	want := map[string]string{"": "disconnected", "busy\x1b[2J": "connected", "gone": "silent", "hub": "disconnected", "late": "connected", "stuck": "silent"}
	if diff := cmp.Diff(want, got); diff != "" || l.silent != 2 {
		t.Errorf("%d silent (-want +got):\n%s", l.silent, diff)
	}
	if l := listed(0, false); l.silent != 0 || len(l.rows) != 6 {
		t.Errorf("without a threshold %d of %d are silent", l.silent, len(l.rows))
	}
	if l := listed(time.Hour, true); len(l.rows) != 2 || l.rows[0].Host != "gone" || l.rows[1].Host != "stuck" {
		t.Errorf("only silent ones: %+v", l.rows)
	}
}

func TestHostsForPrograms(t *testing.T) {
	l := listed(time.Hour, false)
	var out bytes.Buffer
	if err := l.csv(&out); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil || len(rows) != 7 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	tail := func(row []string) string { return strings.Join(row[len(row)-6:], ",") }
	for i, want := range []string{
		"state,records_per_second,lag_seconds,silent_seconds,addresses,also", "disconnected,,,0,10.0.0.9,", "connected,12.346,0.500,0,10.0.0.1,",
		"silent,,0.001,180000,10.0.0.2,", "disconnected,,0.000,0,,", "connected,,10800.000,0,10.0.0.3,", "silent,,,3660,10.0.0.4,",
	} {
		if got := tail(rows[i]); got != want {
			t.Errorf("row %d ends %q, want %q", i, got, want)
		}
	}
	out.Reset()
	if err := l.json(&out); err != nil {
		t.Fatal(err)
	}
	var back []hostRow
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l.rows, back); diff != "" {
		t.Errorf("through JSON (-want +got):\n%s", diff)
	}
	out.Reset()
	if err := (&hostList{}).json(&out); err != nil || strings.TrimSpace(out.String()) != "[]" {
		t.Errorf("no hosts as JSON: %q, %v", &out, err)
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 999 * time.Millisecond: "0s", 59500 * time.Millisecond: "59s", 61 * time.Minute: "1h1m",
		90 * time.Second: "1m30s", 25*time.Hour + time.Minute: "1d1h", 400 * 24 * time.Hour: "400d0h",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// A name from the network neither moves the terminal nor is a formula of a spreadsheet.
func TestHostileHosts(t *testing.T) {
	const name = "=cmd|'/c calc'!A1\x1b[2J\u009b\u202e\xff\nforged"
	l := &hostList{now: time.Now(), toTerminal: true, csvSafe: true}
	l.add([]*fleet.Host{{Name: []byte(name), Addresses: []string{"-1"}}, {Name: []byte("web")}})
	for form, write := range map[terminal.Form]func(*hostList, io.Writer) error{terminal.Text: (*hostList).csv, terminal.Styled: (*hostList).table, terminal.JSON: (*hostList).json} {
		tty, end := need.Terminal(t, 200)
		l.bold = form == terminal.Styled
		if err := write(l, terminal.GuardAs(tty, form)); err != nil {
			t.Fatal(err)
		}
		got := end()
		if strings.ContainsAny(got, "\x1b\u009b\u202e") || strings.Contains(got, "\xff") || strings.Contains(got, "\nforged") {
			t.Errorf("form %d: %q", form, got)
		}
		if form == terminal.Text && (!strings.Contains(got, "\n'=cmd") || !strings.Contains(got, ",'-1,")) {
			t.Errorf("cells are formulas: %q", got)
		}
	}
	var file bytes.Buffer
	l.toTerminal, l.csvSafe = false, false
	if err := l.csv(&file); err != nil || !strings.Contains(file.String(), name) {
		t.Errorf("not to a terminal the name is as it was: %q, %v", &file, err)
	}
}

// A word is one name, whatever is in it: a peer chose it.
func TestHostChange(t *testing.T) {
	cmd := (&program{}).hostsCommand()
	if err := cmd.ParseFlags([]string{"--forget", "web1,db1", "--forget", "\"x\nd", "--reattribute", "10.0.0.1=a,10.0.0.2=b"}); err != nil {
		t.Fatal(err)
	}
	forget, err := cmd.Flags().GetStringArray("forget")
	if d := cmp.Diff([]string{"web1,db1", "\"x\nd"}, forget); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	c, err := (&hostChange{forget: []string{""}, reattribute: []string{"10.0.0.1=a,10.0.0.2=b"}}).change([]string{"more"})
	want := &store.Change{Forget: []string{"", "more"}, Also: map[netip.Addr]string{netip.MustParseAddr("10.0.0.1"): "a,10.0.0.2=b"}}
	if d := cmp.Diff(want, c, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}
