package last

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// told returns what a Sessions makes of lines.
func told(t testing.TB, o *Options, log string) (out, extracted string) {
	t.Helper()
	var b, errs, records bytes.Buffer
	if o.Names == nil {
		o.Names = interpret.NewFleet(nil, "")
	}
	o.Now = time.Unix(1800000000, 0)
	o.records = &records
	s := NewSessions(o, time.UTC, &b, &errs)
	for line := range strings.Lines(log) {
		var r record.Record
		if r.Parse([]byte(strings.TrimSuffix(line, "\n"))) != nil {
			continue
		}
		if err := s.Record(r.Node, &r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), records.String()
}

// ofHost returns a log with a host's name in each record.
func ofHost(node, log string) (lines []string) {
	for line := range strings.Lines(log) {
		lines = append(lines, "node="+node+" "+line)
	}
	return lines
}

// TestHostsAreApart mixes the logs of two hosts, whose processes and sessions have the same
// numbers: each has the sessions that it has alone.
func TestHostsAreApart(t *testing.T) {
	seed := need.Seed(t)
	for i := range need.Rounds(200, 30) {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		logs := [2][]string{ofHost("web1", madeLog(rng, 30)), ofHost("web2", madeLog(rng, 30))}
		var mixed strings.Builder
		for at := [2]int{}; at[0] < len(logs[0]) || at[1] < len(logs[1]); {
			if h := rng.IntN(2); at[h] < len(logs[h]) {
				mixed.WriteString(logs[h][at[h]])
				at[h]++
			}
		}
		both, _ := told(t, &Options{Hosts: true}, mixed.String())
		for h, node := range []string{"web1", "web2"} {
			alone, _ := told(t, &Options{Hosts: true}, strings.Join(logs[h], ""))
			var of strings.Builder
			for line := range strings.Lines(both) {
				if strings.HasPrefix(line, node+" ") {
					of.WriteString(line)
				}
			}
			if d := cmp.Diff(alone, of.String()); d != "" {
				t.Fatalf("round %d: %s: -alone +mixed:\n%s", i, node, d)
			}
		}
	}
}

// TestRecordedLogs compares with aulast on logs that a kernel and stock daemons wrote.
func TestRecordedLogs(t *testing.T) {
	tool := need.Stock(t, "aulast")
	var files []string
	unsorted := need.Source(t, "pkg/search/testdata/types.log")
	for _, pattern := range []string{"integration/harness/testdata/*.log", "pkg/search/testdata/*.log", "pkg/record/testdata/*.log", "pkg/interpret/testdata/*.log"} {
		found, err := filepath.Glob(need.Source(t, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if dir := os.Getenv("AUDITFLEET_LOGS"); dir != "" {
		files, _ = filepath.Glob(filepath.Join(dir, "*.log"))
	}
	if len(files) == 0 {
		t.Fatal("no logs")
	}
	for _, from := range files {
		log, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(log, []byte("node=")) { // DIFFERENCES.md: other-hosts
			log = oneNode.ReplaceAll(log, nil)
		}
		file := filepath.Join(t.TempDir(), "log")
		for _, args := range [][]string{{"--proof"}, {"--bad", "--proof"}, {"--debug"}, {"--extract"}} {
			if from == unsorted && args[0] == "--extract" { // DIFFERENCES.md: order
				continue
			}
			if d := compare(t, tool, file, string(log), args); d != "" {
				t.Errorf("%s %q: -stock +ours:\n%s", from, args, d)
			}
		}
	}
}

// FuzzSessions has logs of any bytes: of each record that begins something there is one line
// at most, and --extract has lines of the log.
func FuzzSessions(f *testing.F) {
	for i := range 20 {
		f.Add(madeLog(rand.New(rand.NewPCG(7, uint64(i))), 10), i%2 == 0, i%3 == 0)
	}
	f.Fuzz(func(t *testing.T, log string, bad, hosts bool) {
		begins := 0
		for line := range strings.Lines(log) {
			var r record.Record
			if r.Parse([]byte(strings.TrimSuffix(line, "\n"))) != nil {
				continue
			}
			switch r.Type {
			case tables.Login, tables.SystemBoot:
				begins++
			case tables.UserLogin:
				if bad {
					begins++
				}
			}
		}
		out, extracted := told(t, &Options{Bad: bad, Hosts: hosts, Locale: "C"}, log)
		if lines := strings.Count(out, "\n"); lines > begins {
			t.Errorf("%d lines of %d records:\n%s", lines, begins, out)
		}
		for line := range strings.Lines(extracted) {
			if !strings.Contains(log+"\n", line) {
				t.Errorf("extracted %q, which the log has not", line)
			}
		}
	})
}

// TestLocalTime has times in the zone that it is given, also over a change of the clocks.
func TestLocalTime(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		need.Missing(t, "there are no time zones on this machine: "+err.Error())
	}
	log := ""
	for i, typ := range []string{"SYSTEM_BOOT", "SYSTEM_SHUTDOWN"} {
		log += fmt.Sprintf("type=%s msg=audit(%d.000:%d): pid=1 uid=0\n", typ, 1792884000+i*7200, i+1) // 2026-10-25 01:20 and, with the clocks back, 02:20
	}
	var b bytes.Buffer
	s := NewSessions(&Options{Proof: true, Locale: "C", Names: interpret.NewFleet(nil, "")}, zone, &b, &b)
	for line := range strings.Lines(log) {
		var r record.Record
		if err := r.Parse([]byte(line[:len(line)-1])); err != nil {
			t.Fatal(err)
		}
		if err := s.Record(nil, &r); err != nil {
			t.Fatal(err)
		}
	}
	want := `reboot   system boot  ?                Sun Oct 25 01:20 - 02:20  (02:00)
    audit event proof serial numbers: 1, 0, 2
    Session data can be found with this search:
    ausearch --start 10/25/26 01:20:00 --end 10/25/26 02:20:00

`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

// A log of logins without their ends, as many as one likes, is read in a time that grows with it: each USER_LOGIN finds
// its own.
func TestLoginsWithoutEnds(t *testing.T) {
	n := need.Size(50_000, 2_000)
	var log strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&log, "type=LOGIN msg=audit(1700000000.000:%d): pid=%d uid=0 old-auid=4294967295 auid=1000 old-ses=4294967295 ses=%d res=1\n", 2*i, i, i)
		fmt.Fprintf(&log, "type=USER_LOGIN msg=audit(1700000000.000:%d): pid=%d uid=0 auid=1000 ses=%d msg='op=login id=1000 hostname=h terminal=/dev/pts/1 res=success'\n", 2*i+1, i, i)
	}
	out, _ := told(t, &Options{}, log.String())
	if got := strings.Count(out, "\n"); got < n {
		t.Errorf("%d lines of %d logins", got, n)
	}
}
