package search

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// TestIndexNeverHides is what the store's index rests on: an event that matches
// has, for every term, an extracted value that the term accepts.
func TestIndexNeverHides(t *testing.T) {
	seed := need.Seed(t)
	matches := 0
	for name, path := range diffLogs(t) {
		events := eventsOf(t, path)
		p, r := poolOf(events), rand.New(rand.NewPCG(seed, uint64(len(name))))
		var x Extractor
		for range 400 {
			args := p.query(r)
			o, err := ParseArgs(args, utcEnv)
			if err != nil {
				t.Fatalf("%q: %v", args, err)
			}
			m := NewMatcher(&o.Query)
			for _, ev := range events {
				if !m.Match(ev) {
					continue
				}
				matches++
				for i := range o.Query.Terms {
					term, ok := &o.Query.Terms[i], false
					x.Extract(ev, func(f Field, v []byte) {
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

// TestMatchIsPure checks that a Matcher's answer does not depend on the events
// it saw before, nor on its looking for the text first.
func TestMatchIsPure(t *testing.T) {
	events := append(eventsOf(t, "testdata/types.log"), eventsOf(t, "testdata/kernel-raw.log")...)
	p, r := poolOf(events), rand.New(rand.NewPCG(need.Seed(t), 2))
	for range 300 {
		o, err := ParseArgs(p.query(r), utcEnv)
		if err != nil {
			t.Fatal(err)
		}
		m, slow := NewMatcher(&o.Query), NewMatcher(&o.Query)
		slow.skim = nil
		for _, ev := range events {
			want := o.Query.Match(ev)
			if got := m.Match(ev); got != want {
				t.Fatalf("%+v: %v after other events, %v alone: %s", o.Query, got, want, ev.Records[0].Raw)
			}
			if got := slow.Match(ev); got != want {
				t.Fatalf("%+v: %v without skimming, %v with: %s", o.Query, got, want, ev.Records[0].Raw)
			}
		}
	}
}

func TestExtractAllocatesNothing(t *testing.T) {
	events := eventsOf(t, "testdata/kernel-node.log")
	var x Extractor
	n := 0
	add := func(_ Field, v []byte) { n += len(v) }
	if avg := testing.AllocsPerRun(20, func() {
		for _, ev := range events {
			x.Extract(ev, add)
		}
	}); avg != 0 {
		t.Errorf("Extract allocates %v times for %d events", avg, len(events))
	}
	m := NewMatcher(&Query{Terms: []Term{{Fields: []Field{FieldFile}, Op: OpContains, Text: "nowhere"}}})
	if avg := testing.AllocsPerRun(20, func() {
		for _, ev := range events {
			m.Match(ev)
		}
	}); avg != 0 {
		t.Errorf("Match allocates %v times for %d events", avg, len(events))
	}
}

func TestExtract(t *testing.T) {
	ev := oneEvent(t,
		stamped("SYSCALL", `arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=0 a3=0 items=1 ppid=10 pid=901 auid=1000 uid=1 gid=2 euid=3 `+
			`suid=0 fsuid=0 egid=4 sgid=0 fsgid=0 tty=pts0 ses=5 comm=6120622222 exe="/usr/bin/x" subj=s_t key=6B31016B32`+"\x1d"+`AUID="alice" UID="daemon" EUID="sys" GID="bin" EGID="tty"`),
		stamped("CWD", `cwd="/home"`),
		stamped("PATH", `item=0 name="./f" obj=o_t nametype=NORMAL`),
		stamped("SOCKADDR", "saddr=02000050C0000201"),
	)
	want := []string{
		"type 1300", "type 1307", "type 1302", "type 1306", "key k1", "key k2", "pid 901", "ppid 10", "auid 1000", "uid 1", "euid 3",
		"gid 2", "egid 4", "ses 5", "syscall 59", "arch x86_64", "success yes", "exit 0", `comm a b""`, "exe /usr/bin/x",
		"file /home/./f", "host 192.0.2.1", "terminal pts0", "subject s_t", "object o_t",
		"auid-name alice", "uid-name daemon", "euid-name sys", "gid-name bin", "egid-name tty", "file /home",
	}
	var got []string
	var x Extractor
	x.Extract(ev, func(f Field, v []byte) { got = append(got, f.String()+" "+string(v)) })
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func oneEvent(t testing.TB, lines ...string) *event.Event {
	t.Helper()
	ev := &event.Event{}
	for _, l := range lines {
		var r record.Record
		if err := r.Parse([]byte(l)); err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		ev.Node, ev.Ms, ev.Serial = r.Node, r.Ms(), r.Serial
		ev.Records = append(ev.Records, r)
	}
	return ev
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
		{"-ts", "-r"}, {"-ts", "13/13/26"}, {"-ts", "01/01/2026"}, {"-ts", "1/1/26x"}, {"-ts", "01/01/03"}, {"-ts", "25:00"},
		{"-ts", "today", "x"}, {"-te", "tomorrow"}, {"-te", "10:61"}, {"-te", "01/01/26", "noon"}, {"-ts", "01/01/26", "1:2:3:4"},
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
	if r := runOurs(utcEnv, "-if", "testdata/types.log", "-m", "NOPE"); r.code != 1 || !strings.HasPrefix(r.stderr, "Valid message types are: ALL USER LOGIN USER_AUTH ") {
		t.Errorf("-m NOPE: %d %q", r.code, r.stderr)
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
		{"en_US.UTF-8", "UTC", []string{"-ts", day.Format("01/02/06")}}, // year 26
		{"en_DK.UTF-8", "UTC", []string{"-ts", day.Format("2006-01-02"), "-te", now.Format("2006-01-02"), "04:00"}},
		{"en_GB.UTF-8", "UTC", []string{"-ts", day.Format("02/01/06")}},
		{"de_DE.UTF-8", "UTC", []string{"-ts", day.Format("02.01.2006")}},
		{"de_DE.UTF-8", "UTC", []string{"-ts", day.Format("01/02/06")}}, // C's is understood too
	} {
		loc, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Skip(err)
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

// TestStops checks that a search ends when its context does.
func TestStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f, err := os.Open("testdata/types.log")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Run(ctx, &Options{Format: FormatRaw}, time.UTC, Read(ReadConfig{}, f), &bytes.Buffer{}); err == nil {
		t.Error("a cancelled search says nothing")
	}
}
