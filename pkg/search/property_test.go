package search

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// TestIndexNeverHides is what the store's index rests on: an event that matches
// has, for every term, an extracted value that the term accepts.
func TestIndexNeverHides(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	matches := 0
	for name, path := range diffLogs(t) {
		events := eventtest.Read(t, path)
		p, r := poolOf(events), rand.New(rand.NewPCG(seed, uint64(len(name))))
		var x query.Extractor
		for range 400 {
			args := p.query(r)
			o, err := ParseArgs(args, utcEnv)
			if err != nil {
				t.Fatalf("%q: %v", args, err)
			}
			m := query.NewMatcher(&o.Query)
			for _, ev := range events {
				if !m.Match(ev) {
					continue
				}
				matches++
				for i := range o.Query.Terms {
					term, ok := &o.Query.Terms[i], false
					x.Extract(ev, func(f query.Field, v []byte) {
						if slices.Contains(term.Fields, f) && term.Values()(v) {
							ok = true
							exact, is := term.Exact()
							if is && !slices.Contains(exact, string(v)) {
								t.Errorf("%q: %s %q is accepted but not in Exact %q", args, f, v, exact)
							}
						}
					})
					if !ok {
						t.Fatalf("%s: %q matches an event without a value for %+v:\n%s", name, args, *term, ev.Records[0].Raw)
					}
				}
			}
		}
	}
	if matches == 0 {
		t.Fatal("nothing matched")
	}
	t.Logf("%d matches", matches)
}

// TestOptionErrors compares complaints: the exit code, and the text where it
// does not list what only one of the two knows.
func TestOptionErrors(t *testing.T) {
	bin := need.Stock(t, "ausearch")
	for _, args := range [][]string{
		{"-k"}, {"-k", "-r"}, {"--bogus"}, {"stray"}, {"-p", "x"}, {"-pp", "x"}, {"-a", "x"}, {"-a", "-5"}, {"-e"}, {"-e", "EFOO"},
		{"-e", "-EFOO"}, {"--session", "x"}, {"--session"}, {"-ui", "nosuchuser"}, {"-ue", "nosuchuser"}, {"-ul", "nosuchuser"},
		{"-ua", "nosuchuser"}, {"-gi", "nosuchgroup"}, {"-ge", "nosuchgroup"}, {"-ga", "nosuchgroup"}, {"-sc", "nosuchcall"},
		{"--arch", "nosucharch"}, {"-sc", "open", "--arch", "b64"}, {"--arch", "b64", "--arch", "b32"}, {"-sv", "maybe"},
		{"--format", "xml"}, {"--format", "csv", "--format", "raw"}, {"-i", "-r"}, {"-r", "-i"}, {"-r", "x"}, {"-i", "x"},
		{"--escape", "x"}, {"--escape"}, {"--extra-keys"}, {"--extra-time", "-r"}, {"--extra-keys", "x"}, {"-ts"}, {"-te"},
		{"-ts", "-r"}, {"-ts", "13/13/26"}, {"-ts", "1/1/26x"}, {"-ts", "01/01/03"}, {"-ts", "25:00"},
		{"-ts", "today", "x"}, {"-te", "10:61"}, {"-te", "01/01/26", "noon"}, {"-ts", "01/01/26", "1:2:3:4"},
		{"--eoe-timeout", "x"}, {"--eoe-timeout", "0"}, {"-m", ""}, {"-if", "/nonexistent/file"}, {"-if", ""}, {"-n"}, {"-ts", "01/32/26"},
		{"-ts", "02/30/26", "-m", "KERNEL"}, {"-ts", "", "-m", "KERNEL"},
	} {
		if !slices.Contains(args, "-if") {
			args = append([]string{"-if", "testdata/types.log"}, args...)
		}
		stock, ours := runStock(t, bin, nil, args...), runOurs(utcEnv, args...)
		stock.stderr, _, _ = strings.Cut(stock.stderr, "\n")
		ours.stderr, _, _ = strings.Cut(ours.stderr, "\n")
		if stock.code != ours.code || stock.stderr != ours.stderr && !strings.Contains(stock.stderr, "Valid message types") &&
			!strings.HasPrefix(stock.stderr, "stat: ") {
			t.Errorf("%q: exit %d %q, want %d %q", args, ours.code, ours.stderr, stock.code, stock.stderr)
		}
	}
}

// TestTimes compares what the date words and forms stand for: on a log with an
// event every hour of the last weeks, and every half day before, the events found.
func TestTimes(t *testing.T) {
	bin := need.Stock(t, "ausearch")
	path := t.TempDir() + "/hours.log"
	now := time.Now()
	var log bytes.Buffer
	for at, n := now.Add(-2*366*24*time.Hour).Truncate(time.Hour), 1; at.Before(now.Add(24 * time.Hour)); at, n = at.Add(time.Hour), n+1 {
		if now.Sub(at) > 45*24*time.Hour {
			at = at.Add(11 * time.Hour)
		}
		log.WriteString(hourRecord(at, n))
	}
	if err := os.WriteFile(path, log.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	day := now.AddDate(0, 0, -40)
	locales := map[string]string{} // where each was compiled, "" when it could not be
	for _, c := range []struct {
		locale, zone string
		args         []string
	}{
		{"C", "UTC", []string{"-ts", "today"}},
		{"C", "UTC", []string{"-ts", "yesterday"}},
		{"C", "UTC", []string{"-ts", "yesterday", "10:00"}},
		{"C", "UTC", []string{"-ts", "now"}},
		{"C", "UTC", []string{"-ts", "recent"}},
		{"C", "UTC", []string{"-ts", "recent", "01:00:00"}},
		{"C", "UTC", []string{"-ts", "boot"}},
		{"C", "UTC", []string{"-ts", "this-week"}},
		{"C", "UTC", []string{"-ts", "week-ago"}},
		{"C", "UTC", []string{"-ts", "this-month"}},
		{"C", "UTC", []string{"-ts", "this-year"}},
		{"C", "UTC", []string{"-ts", "03:00"}},
		{"C", "UTC", []string{"-ts", "this-year", "-te", "this-month"}},
		{"C", "UTC", []string{"-ts", "week-ago", "-te", "yesterday"}},
		{"C", "UTC", []string{"-ts", "week-ago", "-te", "today"}},
		{"C", "UTC", []string{"-ts", "week-ago", "-te", "now"}},
		{"C", "UTC", []string{"-ts", "week-ago", "-te", "yesterday", "12:00"}},
		{"C", "UTC", []string{"-ts", "week-ago", "-te", "02:00"}},
		{"C", "UTC", []string{"-te", day.Format("01/02/06")}},
		{"C", "UTC", []string{"-te", day.Format("1/2/06"), "7:5"}},
		{"C", "UTC", []string{"-ts", day.Format("15:04:05"), day.Format("01/02/06")}},
		{"C", "Europe/Berlin", []string{"-ts", day.Format("01/02/06"), "13:00"}},
		{"C", "America/New_York", []string{"-ts", "today"}},
		{"C", "Asia/Kolkata", []string{"-ts", "yesterday", "-te", "today"}},
		{"en_US.UTF-8", "UTC", []string{"-ts", day.Format("01/02/2006")}},
		{"en_DK.UTF-8", "UTC", []string{"-ts", day.Format("2006-01-02"), "-te", now.Format("2006-01-02"), "04:00"}},
		{"en_GB.UTF-8", "UTC", []string{"-ts", day.Format("02/01/06")}},
		{"de_DE.UTF-8", "UTC", []string{"-ts", day.Format("02.01.2006")}},
		{"de_DE.UTF-8", "UTC", []string{"-ts", day.Format("01/02/06")}}, // C's is understood too
	} {
		loc, err := time.LoadLocation(c.zone)
		if err != nil {
			need.Missing(t, err.Error())
		}
		env := []string{"TZ=" + c.zone, "LC_ALL=" + c.locale}
		if c.locale != "C" && testing.Short() {
			continue // making a locale takes seconds
		}
		if c.locale != "C" {
			dir, ok := locales[c.locale]
			if !ok {
				dir = compiledLocale(t, c.locale)
				locales[c.locale] = dir
			}
			if dir == "" {
				t.Logf("no locale %s here: left out", c.locale)
				continue
			}
			env = append(env, "LOCPATH="+dir)
		}
		args := append([]string{"-if", path, "-r"}, c.args...)
		stock := runStock(t, bin, env, args...)
		ours := runOurs(Env{Location: loc, Locale: c.locale}, args...)
		if stock.out != ours.out || stock.code != ours.code || stock.stderr != ours.stderr {
			t.Errorf("%s %s %q: %d lines, exit %d %q; want %d lines, exit %d %q", c.locale, c.zone, c.args,
				strings.Count(ours.out, "\n"), ours.code, ours.stderr, strings.Count(stock.out, "\n"), stock.code, stock.stderr)
		}
	}
}

// hourRecord is a record that is an event by itself.
func hourRecord(at time.Time, serial int) string {
	return fmt.Sprintf("type=USER msg=audit(%d.000:%d): pid=1 uid=0 auid=0 ses=1 msg='x'\n", at.Unix(), serial)
}

// compiledLocale makes a locale for the stock tool, which needs it on disk.
func compiledLocale(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	lang, charset, _ := strings.Cut(name, ".")
	_ = exec.Command("localedef", "-i", lang, "-f", charset, filepath.Join(dir, name)).Run() // warns with exit 1
	if _, err := os.Stat(filepath.Join(dir, name, "LC_TIME")); err != nil {
		return ""
	}
	return dir
}
