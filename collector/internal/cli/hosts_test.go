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
		{Name: []byte("busy\x1b[2J"), Addresses: []string{"10.0.0.1", "2001:db8::1"}, Connected: true, FirstSeenMs: ago(48 * time.Hour),
			LastSeenMs: ago(time.Second), LastEventMs: ago(1500 * time.Millisecond), Records: 1234567, Bytes: 5 << 20, Lost: 42, Rate: &rate, LagMs: lag(500)},
		{Name: []byte("gone"), Addresses: []string{"10.0.0.2"}, LastSeenMs: ago(50 * time.Hour), LastEventMs: ago(50*time.Hour + 1), Records: 3, LagMs: lag(1)},
		{Name: []byte("hub"), LastSeenMs: ago(90 * time.Hour), LastEventMs: ago(90 * time.Hour), Records: 5, LagMs: lag(0)},
		{Name: []byte("late"), Addresses: []string{"10.0.0.3"}, Connected: true, LastSeenMs: ago(0), LastEventMs: ago(3 * time.Hour), Records: 3, LagMs: lag(3 * 3600 * 1000)},
		{Name: []byte("stuck"), Addresses: []string{"10.0.0.4"}, Connected: true, LastSeenMs: ago(61 * time.Minute), Records: 1},
	}
}

func listed(t *testing.T, after time.Duration, only bool, names ...string) *hostList {
	t.Helper()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	l := &hostList{now: now, silentAfter: after, onlySilent: only, columns: tableColumns, known: someHosts(now)}
	if err := l.choose(names); err != nil {
		t.Fatal(err)
	}
	return l
}

// lines are those of a table, with one space between columns.
func lines(t *testing.T, l *hostList) (all []string) {
	t.Helper()
	var out bytes.Buffer
	if err := l.table(&out); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		all = append(all, strings.Join(strings.Fields(line), " "))
	}
	return all
}

func TestHostsTable(t *testing.T) {
	l := listed(t, time.Hour, false)
	if d := cmp.Diff([]string{
		"HOST ADDRESS STATE SEEN AGO LAG RATE RECORDS SIZE LOST",
		"(others) 10.0.0.9 disconnected 1m0s - - 7 0 B 0",
		`busy\033[2J 10.0.0.1 +1 connected 1s 0s 12/s 1.2M 5.0 MiB 42`,
		"gone 10.0.0.2 SILENT 2d2h 0s - 3 0 B 0",
		"late 10.0.0.3 connected 0s 3h0m - 3 0 B 0",
		"stuck 10.0.0.4 SILENT 1h1m - - 1 0 B 0",
		"",
		"hub - own 3d18h 0s - 5 0 B 0",
	}, lines(t, l)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	var out bytes.Buffer
	if err := l.table(&out); err != nil {
		t.Fatal(err)
	}
	plain := out.String()
	l.bold = true
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

func TestHostsWide(t *testing.T) {
	l := listed(t, time.Hour, false, "busy*", "hub")
	l.wide = true
	got := lines(t, l)
	if len(got) != 4 || got[0] != "HOST ADDRESSES STATE FIRST SEEN LAST SEEN LAST EVENT LAG RATE RECORDS SIZE LOST DUPLICATES UNPARSABLE VERIFIED MISMATCH" ||
		!strings.HasPrefix(got[1], `busy\033[2J 10.0.0.1,2001:db8::1 connected 2026-11-`) || !strings.HasSuffix(got[1], " 0s 12/s 1234567 5.0 MiB 42 0 0 - 0") {
		t.Errorf("%q", got)
	}
}

// TestHostsFit has a table of at most 100 columns, whatever hosts are called, its columns
// below one another.
func TestHostsFit(t *testing.T) {
	now := time.Now()
	rate := 999999.0
	lag := int64(59*60+59) * 1000
	for _, name := range []string{strings.Repeat("w", 255), strings.Repeat("漢", 80), "db", "a\x1b[31m" + strings.Repeat("\n", 70), strings.Repeat("e\u0301", 40)} {
		l := &hostList{now: now, silentAfter: time.Hour, columns: tableColumns}
		for _, address := range []string{"2001:db8:1234:5678:9abc:def0:1234:5678", "192.168.100.100"} {
			l.known = append(l.known, &fleet.Host{Name: []byte(name), Addresses: []string{address, "10.0.0.1"}, LastSeenMs: now.Add(-400 * 24 * time.Hour).UnixMilli(),
				Records: 1 << 62, Bytes: 1 << 62, Lost: 1<<64 - 1, Rate: &rate, LagMs: &lag})
		}
		if err := l.choose(nil); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := l.table(&out); err != nil {
			t.Fatal(err)
		}
		at := -1
		for line := range strings.Lines(out.String()) {
			line = strings.TrimSuffix(line, "\n")
			if n := terminal.Width(line); n > tableColumns {
				t.Errorf("%d columns: %s", n, line)
			}
			word := strings.Index(line, "SILENT")
			if word < 0 {
				word = strings.Index(line, "STATE")
			}
			if n := terminal.Width(line[:word]); at >= 0 && n != at {
				t.Errorf("the columns are not below one another:\n%s", &out)
			} else {
				at = n
			}
		}
	}
}

func TestHostsStates(t *testing.T) {
	l := listed(t, time.Hour, false)
	got := map[string]string{}
	for _, r := range l.rows {
		got[r.Host] = r.State
	}
	want := map[string]string{"": "disconnected", "busy\x1b[2J": "connected", "gone": "silent", "hub": "own", "late": "connected", "stuck": "silent"}
	if diff := cmp.Diff(want, got); diff != "" || l.silent != 2 || l.chosen != 5 {
		t.Errorf("%d of %d silent (-want +got):\n%s", l.silent, l.chosen, diff)
	}
	if l := listed(t, 0, false); l.silent != 0 || len(l.rows) != 6 {
		t.Errorf("without a threshold %d of %d are silent", l.silent, len(l.rows))
	}
	if l := listed(t, time.Hour, true); len(l.rows) != 2 || l.rows[0].Host != "gone" || l.rows[1].Host != "stuck" {
		t.Errorf("only silent ones: %+v", l.rows)
	}
	if l := listed(t, time.Hour, true, "g*", "l?te"); len(l.rows) != 1 || l.silent != 1 || l.chosen != 2 {
		t.Errorf("of those chosen: %+v", l.rows)
	}
	if err := (&hostList{known: someHosts(time.Now())}).choose([]string{"late", "gnoe"}); err == nil || !strings.Contains(err.Error(), `no host is called "gnoe"`) || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a name that is wrong: %v", err)
	}
}

// TestNumbersForPeople are as long as a column has room.
func TestNumbersForPeople(t *testing.T) {
	for f, want := range map[float64]string{0: "0/s", 0.001: "0/s", 0.024: "0.024/s", 1: "1/s", 3.44: "3.4/s", 9.96: "10/s", 12.3: "12/s", 999: "999/s", 999.6: "1.0k/s", 1234: "1.2k/s", 35123: "35k/s", 1.2e6: "1.2M/s"} {
		if got := perSecond(f); got != want {
			t.Errorf("%v: %q, want %q", f, got, want)
		}
	}
	for f, want := range map[float64]string{0: "0", 42: "42", 99999: "99999", 123456: "123k", 1234567: "1.2M", 1 << 62: "4.6E"} {
		if got := short(f); got != want {
			t.Errorf("%v: %q, want %q", f, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 5 << 20: "5.0 MiB", 99 << 30: "99.0 GiB", 1023 << 20: "1023 MiB"} {
		if got := shortSize(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestHostsForPrograms(t *testing.T) {
	l := listed(t, time.Hour, false)
	var out bytes.Buffer
	if err := l.csv(&out); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil || len(rows) != 7 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	tail := func(row []string) string { return strings.Join(row[len(row)-10:], ",") }
	for i, want := range []string{
		"state,records_per_second,lag_seconds,silent_seconds,addresses,also,lost,verified,mismatched,holds", "disconnected,,,0,10.0.0.9,,0,,0,", "connected,12.346,0.500,0,10.0.0.1 2001:db8::1,,42,,0,",
		"silent,,0.001,180000,10.0.0.2,,0,,0,", "own,,0.000,0,,,0,,0,", "connected,,10800.000,0,10.0.0.3,,0,,0,", "silent,,,3660,10.0.0.4,,0,,0,",
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
	l := &hostList{now: time.Now(), toTerminal: true, csvSafe: true, wide: true}
	l.known = []*fleet.Host{{Name: []byte(name), Addresses: []string{"-1"}}, {Name: []byte("web")}}
	if err := l.choose(nil); err != nil {
		t.Fatal(err)
	}
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

// Who is proved and who claims to be another are columns of their own, once there is one,
// and the table still fits.
func TestHostsProved(t *testing.T) {
	l := listed(t, time.Hour, false)
	l.hosts[1].VerifiedMs, l.hosts[2].Mismatched = l.now.UnixMilli(), 1234567
	l.hosts[2].Name = []byte(strings.Repeat("long", 20))
	got := lines(t, l)
	if !strings.HasSuffix(got[0], "LOST TLS MISMATCH") || !strings.HasSuffix(got[2], " yes 0") || !strings.HasSuffix(got[3], " - 1.2M") {
		t.Errorf("%q", got)
	}
	var out strings.Builder
	if err := l.table(&out); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := terminal.Width(strings.TrimSuffix(line, "\n")); n > tableColumns {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}

// A host on hold is shown so, in a column that is there only where one is.
func TestHostsOnHold(t *testing.T) {
	l := listed(t, time.Hour, false)
	l.hosts[1].Holds = [][]byte{[]byte("web*"), []byte("web1")}
	l.rows[1] = rowOf(l.hosts[1])
	for _, wide := range []bool{false, true} {
		l.wide = wide
		var out bytes.Buffer
		if err := l.table(&out); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Split(out.String(), "\n"); !strings.HasSuffix(lines[0], "  HOLD") || !strings.HasSuffix(lines[2], "  web*,web1") || !strings.HasSuffix(lines[1], "  -") {
			t.Errorf("wide %v:\n%s", wide, out.String())
		}
	}
	l = listed(t, time.Hour, false)
	var out bytes.Buffer
	if err := l.table(&out); err != nil || strings.Contains(out.String(), "HOLD") {
		t.Errorf("nothing is on hold: %v\n%s", err, out.String())
	}
}
