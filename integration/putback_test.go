package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// collectorLost is what a forwarder says of records that a collector has lost, and that it
// does not have any more either.
var collectorLost = regexp.MustCompile(`op=lost-records cause=collector-lost records=(\d+)`)

// TestCollectorPutBack: a collector's store is replaced by a backup, while a forwarder runs that
// had acknowledgements for more: it sends again what its spool still has, by itself, and says
// how many records it can't.
func TestCollectorPutBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spool string
		all   bool // the spool still has it
	}{{"in the spool still", "64M", true}, {"in the spool in part", "1M", false}} {
		t.Run(c.name, func(t *testing.T) {
			pki := pkiOf(t, "web1")
			g := startGRPC(t, pki)
			lines := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 66, Records: 9_000, Nodes: []string{"web1"}})
			dir := t.TempDir()
			log := dir + "/audit.log"
			writeFile(t, log, "")
			args := []string{binaries(t).Forwarder, "run", "--remote", g.addr(), "--transport", "grpc", "--spool", dir + "/spool", "--spool-size", c.spool,
				"--source", log, "--follow", "--log-file", "none"}
			p, err := harness.Start(harness.Spec{Name: "forwarder run", Args: append(args, tlsArgs(pki, "web1")...)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.Kill)
			write := func(part []string) {
				t.Helper()
				f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				for at := 0; at < len(part); at += 100 { // segments end between writes
					if _, err := f.WriteString(strings.Join(part[at:min(at+100, len(part))], "\n") + "\n"); err != nil {
						t.Fatal(err)
					}
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			there := func(n int) {
				t.Helper()
				if !harness.Poll(time.Minute, func() bool { return len(found(t, g.Collector)) >= n }) {
					t.Fatalf("not all of %d are there; the forwarder's output:\n%s", n, p.Output())
				}
			}
			write(lines[:2000])
			there(2000)
			backup := filepath.Join(t.TempDir(), "backup")
			if r, err := g.Command(time.Minute, "backup", backup); err != nil || r.Code != 0 {
				t.Fatalf("backup: %v: %+v", err, r)
			}
			write(lines[2000:8000])
			there(8000)

			if err := g.Terminate(time.Minute); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(g.o.Store); err != nil {
				t.Fatal(err)
			}
			copyTree(t, filepath.Join(backup, "store"), g.o.Store)
			g.Collector = startCollector(t, g.o)
			write(lines[8000:])
			if !harness.Poll(time.Minute, func() bool { return strings.Contains(p.Output(), "does not have records that it has acknowledged") }) {
				t.Fatalf("the forwarder says nothing of what the collector has lost:\n%s", p.Output())
			}
			lost := 0
			if !c.all {
				said := func() string {
					r, err := g.Search(time.Minute, "--format", "raw", "-m", "DAEMON_ERR")
					if err != nil {
						t.Fatal(err)
					}
					return string(r.Stdout)
				}
				if !harness.Poll(time.Minute, func() bool { return collectorLost.MatchString(said()) }) {
					t.Fatalf("nothing is said in the stream; the forwarder's output:\n%s", p.Output())
				}
				lost, _ = strconv.Atoi(collectorLost.FindStringSubmatch(said())[1])
			}
			there(len(lines) - lost)
			if err := p.Terminate(time.Minute); err != nil {
				t.Error(err)
			}
			got := foundAll(t, g.Collector, len(lines)-lost)
			once(t, got)
			if len(got) != len(lines)-lost || !c.all && (lost == 0 || lost >= 6000) {
				t.Errorf("%d of %d records are there, %d are said to be lost", len(got), len(lines), lost)
			}
			if c.all {
				sameRecords(t, lines, got)
			} else {
				sameRecords(t, lines[2000+lost:], got[2000:]) // in order of time: the first of what came after the backup are lost
			}
		})
	}
}
