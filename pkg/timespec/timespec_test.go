package timespec

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// at is when the tests' clocks stand: a Saturday.
const at = "2026-11-28T14:04:05.678+01:00"

func clockAt(t testing.TB, zone, now, layout string) *Clock {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		need.Missing(t, err.Error())
	}
	n, err := time.Parse(time.RFC3339Nano, now)
	if err != nil {
		t.Fatal(err)
	}
	return &Clock{Now: n.In(loc), Location: loc, DateLayout: layout, Uptime: func() (time.Duration, error) { return 90*time.Minute + 400*time.Millisecond, nil }}
}

// Every form, as a start and as an end. The words are apart by a bar.
var forms = []struct{ words, start, end string }{
	// The stock tool's.
	{"11/28/26", "2026-11-28T00:00:00+01:00", "2026-11-28T14:04:05.999+01:00"},
	{"11/27/26|13:00", "2026-11-27T13:00:00+01:00", "2026-11-27T13:00:00.999+01:00"},
	{"13:00|11/27/26", "2026-11-27T13:00:00+01:00", "2026-11-27T13:00:00.999+01:00"},
	{"13:00", "2026-11-28T13:00:00+01:00", "2026-11-28T13:00:00.999+01:00"},
	{"7:5", "2026-11-28T07:05:00+01:00", "2026-11-28T07:05:00.999+01:00"},
	{"now", "2026-11-28T14:04:05+01:00", "2026-11-28T14:04:05.999+01:00"},
	{"recent", "2026-11-28T13:54:05+01:00", "2026-11-28T13:54:05.999+01:00"},
	{"recent|01:00", "2026-11-28T01:00:00+01:00", "2026-11-28T01:00:00.999+01:00"},
	{"recent|00:00:00", "2026-11-28T13:54:05+01:00", "2026-11-28T13:54:05.999+01:00"},
	{"this-hour", "2026-11-28T14:00:00+01:00", "2026-11-28T14:00:00.999+01:00"},
	{"boot", "2026-11-28T12:34:05+01:00", "2026-11-28T12:34:05.999+01:00"},
	{"today", "2026-11-28T00:00:00+01:00", "2026-11-28T14:04:05.999+01:00"},
	{"today|10:00", "2026-11-28T10:00:00+01:00", "2026-11-28T10:00:00.999+01:00"},
	{"yesterday", "2026-11-27T00:00:00+01:00", "2026-11-27T00:00:00.999+01:00"},
	{"yesterday|10:00", "2026-11-27T10:00:00+01:00", "2026-11-27T10:00:00.999+01:00"},
	{"this-week", "2026-11-22T00:00:00+01:00", "2026-11-22T00:00:00.999+01:00"},
	{"week-ago", "2026-11-21T00:00:00+01:00", "2026-11-21T00:00:00.999+01:00"},
	{"this-month", "2026-11-01T00:00:00+01:00", "2026-11-01T00:00:00.999+01:00"},
	{"this-year", "2026-01-01T00:00:00+01:00", "2026-01-01T00:00:00.999+01:00"},
	{"02/30/26", "2026-03-02T00:00:00+01:00", "2026-03-02T14:04:05.999+01:00"}, // which stock takes for that
	// Ours.
	{"tomorrow", "2026-11-29T00:00:00+01:00", "2026-11-29T00:00:00.999+01:00"},
	{"tomorrow|10:00", "2026-11-29T10:00:00+01:00", "2026-11-29T10:00:00.999+01:00"},
	{"11/28/2026", "2026-11-28T00:00:00+01:00", "2026-11-28T14:04:05.999+01:00"},
	{"11/27/2026 13:00", "2026-11-27T13:00:00+01:00", "2026-11-27T13:00:00.999+01:00"},
	{"yesterday 10:00", "2026-11-27T10:00:00+01:00", "2026-11-27T10:00:00.999+01:00"},
	{"10:00 yesterday", "2026-11-27T10:00:00+01:00", "2026-11-27T10:00:00.999+01:00"},
	{"2026-11-27", "2026-11-27T00:00:00+01:00", "2026-11-27T14:04:05.999+01:00"},
	{"2026-1-5", "2026-01-05T00:00:00+01:00", "2026-01-05T14:04:05.999+01:00"},
	{"2026/11/27", "2026-11-27T00:00:00+01:00", "2026-11-27T14:04:05.999+01:00"},
	{"2026-11-27|13:00", "2026-11-27T13:00:00+01:00", "2026-11-27T13:00:00.999+01:00"},
	{"13:00|2026-11-27", "2026-11-27T13:00:00+01:00", "2026-11-27T13:00:00.999+01:00"},
	{"2026-11-27 13:00", "2026-11-27T13:00:00+01:00", "2026-11-27T13:00:00.999+01:00"},
	{"2026-11-27 00:00", "2026-11-27T00:00:00+01:00", "2026-11-27T00:00:00.999+01:00"},
	{"2026-11-27T13:00", "2026-11-27T13:00:00+01:00", "2026-11-27T13:00:00.999+01:00"},
	{"2026-11-27T13:00:05", "2026-11-27T13:00:05+01:00", "2026-11-27T13:00:05.999+01:00"},
	{"2026-11-27T13:00:05Z", "2026-11-27T13:00:05Z", "2026-11-27T13:00:05.999Z"},
	{"2026-11-27t13:00:05z", "2026-11-27T13:00:05Z", "2026-11-27T13:00:05.999Z"},
	{"2026-11-27 13:00:05 UTC", "2026-11-27T13:00:05Z", "2026-11-27T13:00:05.999Z"},
	{"2026-11-27|13:00:05Z", "2026-11-27T13:00:05Z", "2026-11-27T13:00:05.999Z"},
	{"2026-11-27T13:00:05-08:00", "2026-11-27T13:00:05-08:00", "2026-11-27T13:00:05.999-08:00"},
	{"2026-11-27 13:00:05 +0530", "2026-11-27T13:00:05+05:30", "2026-11-27T13:00:05.999+05:30"},
	{"2026-11-27T13:00+02", "2026-11-27T13:00:00+02:00", "2026-11-27T13:00:00.999+02:00"},
	{"2026-11-27T13:00:05.25", "2026-11-27T13:00:05.25+01:00", "2026-11-27T13:00:05.25+01:00"},
	{"2026-11-27T13:00:05,123Z", "2026-11-27T13:00:05.123Z", "2026-11-27T13:00:05.123Z"},
	{"2026-11-27T13:00:05.1234Z", "2026-11-27T13:00:05.124Z", "2026-11-27T13:00:05.123Z"}, // records have milliseconds
	{"2026-11-27T13:00:05.0Z", "2026-11-27T13:00:05Z", "2026-11-27T13:00:05Z"},
	{"13:00:05.5", "2026-11-28T13:00:05.5+01:00", "2026-11-28T13:00:05.5+01:00"},
	{"2026-12-31T23:59:60Z", "2027-01-01T00:00:00Z", "2027-01-01T00:00:00.999Z"},
	{"@1764338645", "2025-11-28T14:04:05Z", "2025-11-28T14:04:05.999Z"},
	{"@1764338645.123", "2025-11-28T14:04:05.123Z", "2025-11-28T14:04:05.123Z"},
	{"-1h", "2026-11-28T13:04:05+01:00", "2026-11-28T13:04:05.999+01:00"},
	{"-90m", "2026-11-28T12:34:05+01:00", "2026-11-28T12:34:05.999+01:00"},
	{"-30s", "2026-11-28T14:03:35+01:00", "2026-11-28T14:03:35.999+01:00"},
	{"-1h30m", "2026-11-28T12:34:05+01:00", "2026-11-28T12:34:05.999+01:00"},
	{"-7d", "2026-11-21T14:04:05+01:00", "2026-11-21T14:04:05.999+01:00"},
	{"-2w", "2026-11-14T14:04:05+01:00", "2026-11-14T14:04:05.999+01:00"},
	{"-2 hours", "2026-11-28T12:04:05+01:00", "2026-11-28T12:04:05.999+01:00"},
	{"-2|hours", "2026-11-28T12:04:05+01:00", "2026-11-28T12:04:05.999+01:00"},
	{"+1h", "2026-11-28T15:04:05+01:00", "2026-11-28T15:04:05.999+01:00"},
	{"2 hours ago", "2026-11-28T12:04:05+01:00", "2026-11-28T12:04:05.999+01:00"},
	{"2|hours|ago", "2026-11-28T12:04:05+01:00", "2026-11-28T12:04:05.999+01:00"},
	{"1 day ago", "2026-11-27T14:04:05+01:00", "2026-11-27T14:04:05.999+01:00"},
	{"an hour ago", "2026-11-28T13:04:05+01:00", "2026-11-28T13:04:05.999+01:00"},
	{"a week ago", "2026-11-21T14:04:05+01:00", "2026-11-21T14:04:05.999+01:00"},
	{"3 months ago", "2026-08-28T14:04:05+02:00", "2026-08-28T14:04:05.999+02:00"}, // summer time then
	{"1 year ago", "2025-11-28T14:04:05+01:00", "2025-11-28T14:04:05.999+01:00"},
	// Summer time ends at 3:00 on 2026-10-25 and begins at 2:00 on 2026-03-29.
	{"2026-10-25 02:30", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00.999+01:00"},
	{"10/25/26|02:30", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00.999+01:00"},
	{"2026-10-25 01:59:59", "2026-10-25T01:59:59+02:00", "2026-10-25T01:59:59.999+02:00"},
	{"2026-10-25 03:00", "2026-10-25T03:00:00+01:00", "2026-10-25T03:00:00.999+01:00"},
	{"2026-10-25 02:30+02:00", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00.999+02:00"},
	{"2026-10-25", "2026-10-25T00:00:00+02:00", "2026-10-25T14:04:05.999+01:00"},
	{"2026-03-29 02:30", "2026-03-29T03:00:00+02:00", "2026-03-29T01:59:59.999+01:00"},
	{"2026-03-29 03:00", "2026-03-29T03:00:00+02:00", "2026-03-29T03:00:00.999+02:00"},
	{"2026-03-29 01:59:59", "2026-03-29T01:59:59+01:00", "2026-03-29T01:59:59.999+01:00"},
}

func TestForms(t *testing.T) {
	c := clockAt(t, "Europe/Berlin", at, "%m/%d/%y")
	for _, f := range forms {
		words := strings.Split(f.words, "|")
		if n := Words(append(words, "-k", "x")); n != len(words) {
			t.Errorf("%s: %d words", f.words, n)
		}
		for kind, want := range []string{f.start, f.end} {
			ms, err := c.Read(Kind(kind), words...)
			w, perr := time.Parse(time.RFC3339Nano, want)
			if perr != nil {
				t.Fatal(perr)
			}
			if err != nil || ms != w.UnixMilli() {
				t.Errorf("%s as %s: %s, %v; want %s", f.words, Kind(kind), time.UnixMilli(ms).In(c.Location).Format(time.RFC3339Nano), err, want)
			}
		}
	}
}

// The hour that comes twice is told by the moment where the words are one.
func TestTwice(t *testing.T) {
	for now, want := range map[string]string{
		"2026-10-25T02:30:00+02:00": "2026-10-25T02:20:00+02:00",
		"2026-10-25T02:30:00+01:00": "2026-10-25T02:20:00+01:00",
	} {
		c := clockAt(t, "Europe/Berlin", now, "%m/%d/%y")
		w, _ := time.Parse(time.RFC3339, want)
		for _, kind := range []Kind{Start, End} {
			if ms, err := c.Read(kind, "recent"); err != nil || ms/1000 != w.Unix() {
				t.Errorf("recent at %s as %s: %d, %v", now, kind, ms, err)
			}
		}
	}
}

// A date in each of the ways that locales write it, with either year.
func TestLocales(t *testing.T) {
	for _, c := range []struct{ layout, words string }{
		{"%m/%d/%y", "2/3/21"}, {"%m/%d/%Y", "02/03/21"}, {"%d.%m.%Y", "03.02.2021"}, {"%d.%m.%Y", "3.2.21"}, {"%d. %m. %Y", "3. 2. 2021"},
		{"%d. %m. %Y", "3. 2. 2021 00:00"}, {"%-d/%Om/%EY", "3/2/2021"}, {"%d/%m/%y", "03/02/2021"}, {"%d-%m-%y", "03-02-21"},
		{"%d-%m-%y", "2021-02-03"}, {"%Y년 %m월 %d일", "2021년 02월 03일"}, {"%y/%m/%d", "21/02/03"}, {"%y/%m/%d", "2021/02/03"},
		{"%d.%m.%Y.", "03.02.2021."}, {"%Y.%d.%m", "2021.03.02"}, {"%Y.%m.%d", "2021.02.03"}, {"%e.%m.%Y", " 3.02.2021"},
		{"%d.%m.%Y", "02/03/21"}, // C's is understood too
	} {
		clock := clockAt(t, "UTC", at, c.layout)
		ms, err := clock.Read(Start, c.words)
		if got := time.UnixMilli(ms).UTC().Format("2006-01-02 15:04"); err != nil || got != "2021-02-03 00:00" {
			t.Errorf("%s %q: %s, %v", c.layout, c.words, got, err)
		}
	}
}

// What is no time. The first line is the stock tool's, the second shows what would do.
func TestRefused(t *testing.T) {
	c := clockAt(t, "Europe/Berlin", at, "%d.%m.%Y")
	for _, r := range []struct{ words, want string }{
		{"", "Invalid start date (). Month, Day, and Year are required."},
		{"soon", "Invalid start date (soon). "},
		{"13/13/26", "Invalid start date (13/13/26). "},
		{"28.11.2026x", "Error parsing start date (28.11.2026x)"},
		{"10:61", "Invalid start time (10:61). Hour, Minute, and Second are required."},
		{"25:00", "Invalid start time (25:00). "},
		{"today|x", "Invalid start time (x). "},
		{"today|10.30", "Invalid start time (10.30). "},
		{"today|10:30:00x", "Error parsing start time (10:30:00x)"},
		{"today|1:2:3", "Error parsing start time (1:2:3)"},
		{"01/02/99", "Error - year is 1999"},
		{"2026-02-30", "Invalid start date (2026-02-30). "},
		{"2026-13-01", "Invalid start date (2026-13-01). "},
		{"2026-11-28T", "Invalid start time (). "},
		{"2026-11-28T14", "Invalid start time (14). "},
		{"2026-11-28 14:61", "Invalid start time (14:61). "},
		{"2026-11-28T14:04:05+25:00", "Invalid start time (14:04:05+25:00). "},
		{"2026-11-28T14:04|10:00", "Invalid start time "},
		{"2026-11-28x", "Invalid start date (2026-11-28x). "},
		{"@", "Invalid start date (@). "},
		{"@-5", "Invalid start date (@-5). "},
		{"@+5", "Invalid start date (@+5). "},
		{"@1e9", "Invalid start date (@1e9). "},
		{"@5.", "Invalid start date (@5.). "},
		{"@1764338645123", "Invalid start date (@1764338645123). It is in seconds since 1970\n  milliseconds? Those are @1764338645.123"},
		{"@99999999999999999999", "Invalid start date (@99999999999999999999). "},
		{"-5", "Invalid start date (-5). "},
		{"-5x", "Invalid start date (-5x). "},
		{"-1M", "Invalid start date (-1M). "},
		{"-1.5h", "Invalid start date (-1.5h). "},
		{"-1h|10:00", "Invalid start "},
		{"-1h ago", "Invalid start date (-1h ago). "},
		{"ago", "Invalid start date (ago). "},
		{"two hours ago", "Invalid start date (two hours ago). "},
		{"2 hours", "Invalid start date (2 hours). "},
		{"-99999999999999999999h", "Invalid start date "},
		{"-3000000h", "Invalid start date "},
		{"-100y", "Invalid start date "},
		{"boot", "Can't read uptime (no clock)"},
	} {
		c.Uptime = func() (time.Duration, error) { return 0, errors.New("no clock") }
		_, err := c.Read(Start, strings.Split(r.words, "|")...)
		var want *Error
		if !errors.As(err, &want) || !strings.HasPrefix(err.Error(), r.want) {
			t.Errorf("%s: %v\nwant %s", r.words, err, r.want)
			continue
		}
		if shows := strings.Contains(err.Error(), "\n  what would do: 2026-11-28, \"2026-11-28 14:04:05\", today") && strings.HasSuffix(err.Error(), ": 28.11.2026"); !shows &&
			strings.HasPrefix(err.Error(), "Invalid") && !strings.Contains(err.Error(), "milliseconds") && !strings.Contains(err.Error(), "seconds since") {
			t.Errorf("%s: %v shows nothing that would do", r.words, err)
		}
	}
	if ms, err := c.Read(End, "1970-01-01"); err != nil || ms > 86400_000 {
		t.Errorf("the first day: %d, %v", ms, err)
	}
	if ms, err := c.Read(Start, "1970-01-01"); err != nil || ms != 1 {
		t.Errorf("before everything: %d, %v", ms, err)
	}
	if _, err := c.Read(End, "1969-12-31"); err == nil {
		t.Error("an end before everything is no bound at all")
	}
}

// The words that belong to a time end at the next option.
func TestWords(t *testing.T) {
	for args, want := range map[string]int{
		"": 0, "-k x": 0, "--end": 0, "today": 1, "today -k": 1, "today 10:00": 2, "today 10:00 x": 2, "2 hours ago": 3, "2 hours": 2,
		"2 hours ago -k": 3, "2 apples ago": 2, "-1h": 1, "-1h -k": 1, "-1h x": 1, "-2 hours": 2, "-2 -3": 1, "-": 0, "-h": 0, "a day ago": 3,
	} {
		if n := Words(strings.Fields(args)); n != want {
			t.Errorf("%q: %d words, want %d", args, n, want)
		}
	}
}

// Whatever the words, it ends, and what is taken for a time is one after 1970; an end is
// never before the start of the same words but in an hour that does not exist.
func FuzzRead(f *testing.F) {
	for _, form := range forms {
		f.Add(form.words)
	}
	for _, s := range []string{"@1764338645123", "-5x", "2026-13-01", "1 year ago", "-4294967296h", "+9y", "24:00:60", "é:1", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, layout := range []string{"%m/%d/%y", "%d. %m. %Y", "%Y년 %m월 %d일"} {
			c := clockAt(t, "America/New_York", at, layout)
			words := strings.Split(text, "|")
			words = words[:min(len(words), 3)]
			start, err := c.Read(Start, words...)
			end, eerr := c.Read(End, words...)
			if err == nil && start < 1 || eerr == nil && end < 1 || start > (lastSecond+86400)*1000 {
				t.Errorf("%q: %d, %d", text, start, end)
			}
			if err == nil && eerr == nil && end < start-3600_000*2 {
				t.Errorf("%q: from %d to %d", text, start, end)
			}
		}
	})
}

// Every moment is found again by each way to write it.
func FuzzRoundTrip(f *testing.F) {
	f.Add(int64(1764338645123))
	f.Add(int64(1792888200000)) // the hour that comes twice
	f.Fuzz(func(t *testing.T, ms int64) {
		if ms < 1 || ms > 4102444800000 { // to 2100
			return
		}
		for _, zone := range []string{"UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"} {
			c := clockAt(t, zone, at, "%m/%d/%y")
			m := time.UnixMilli(ms).In(c.Location)
			for _, layout := range []string{"2006-01-02T15:04:05.000Z07:00", "2006-01-02 15:04:05.000 -0700"} {
				for _, kind := range []Kind{Start, End} {
					if got, err := c.Read(kind, m.Format(layout)); err != nil || got != ms {
						t.Errorf("%s: %d, %v", m.Format(layout), got, err)
					}
				}
			}
			// Without the zone it is between the first and the last time that reads so.
			text := m.Format("2006-01-02 15:04:05.000")
			first, err := c.Read(Start, text)
			last, lerr := c.Read(End, text)
			if err != nil || lerr != nil || first > ms || last < ms || time.UnixMilli(first).In(c.Location).Format("2006-01-02 15:04:05.000") != text ||
				time.UnixMilli(last).In(c.Location).Format("2006-01-02 15:04:05.000") != text {
				t.Errorf("%s in %s: %d to %d, %v, %v", text, zone, first, last, err, lerr)
			}
		}
	})
}
