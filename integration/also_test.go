package integration

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/internal/testca"
)

// TestAlso asks three collectors at once, each with a host of its own and one that went from the first to the second:
// while all are there, with one that is killed, and with one that stands still; under the stock names, too.
func TestAlso(t *testing.T) {
	t.Parallel()
	bins, dir := binaries(t), t.TempDir()
	ca := testca.New(t, dir)
	ca.Issue(dir, nil, "collector", "localhost")
	ca.Issue(dir, func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"auditfleet:role=read"} }, "reader")
	var all []*harness.Collector
	var addrs []string
	for range 3 {
		port, err := need.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, fmt.Sprint("localhost:", port))
		all = append(all, startCollector(t, harness.CollectorOptions{Args: append([]string{"--listen", "", "--grpc", fmt.Sprint("127.0.0.1:", port), "--node", fmt.Sprint("log", len(all))}, tlsArgs(dir, "collector")...)}))
	}
	var want []string
	ship := func(host, run, remote string, lines []string) {
		t.Helper()
		ca.Issue(dir, nil, host)
		log := filepath.Join(dir, host+run+".log")
		writeFile(t, log, strings.Join(lines, "\n")+"\n")
		r, err := harness.Run(2*time.Minute, append([]string{bins.Forwarder, "run", "--remote", remote, "--transport", "grpc", "--source", log, "--spool", log + ".spool", "--state", log + ".state"}, tlsArgs(dir, host)...)...)
		if err != nil || r.Code != 0 {
			t.Fatalf("%v: %s", err, r.Stderr)
		}
		want = append(want, lines...)
	}
	moved := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 9, Records: 3000, Nodes: []string{"moved"}})
	for i, addr := range addrs {
		ship(fmt.Sprint("own", i), "", addr, realLog(t, harness.RecordedRaw(), harness.Make{Seed: uint64(i), Records: 2000, Nodes: []string{fmt.Sprint("own", i)}}))
	}
	half := 1500 // the second gets some again, as after an acknowledgement that was lost
	ship("moved", "1", addrs[0], moved[:half])
	ship("moved", "2", addrs[1], moved[half-200:])
	want = slices.Compact(slices.Sorted(slices.Values(want)))

	config := filepath.Join(dir, "client.conf")
	writeFile(t, config, fmt.Sprintf("also = %s\ntls_ca = %s/ca.crt\ntls_cert = %s/reader.crt\ntls_key = %s/reader.key\nalso_wait = 4s\n", strings.Join(addrs, ", "), dir, dir, dir))
	env := []string{"AUDITFLEET_CLIENT=" + config, "AUDITFLEET_COVERAGE_NOTE=off"}
	asked := func(words ...string) *harness.Result {
		t.Helper()
		r, err := harness.Run(2*time.Minute, append(append([]string{"env"}, env...), words...)...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	hosts := "own0,own1,own2,moved"
	first := []string{bins.Collector, "search", "--server", addrs[0], "-n", hosts}
	sorted := func(out []byte) []string {
		return slices.Sorted(slices.Values(strings.Split(strings.TrimSpace(string(out)), "\n")))
	}
	r := asked(append(first, "--raw")...)
	if got := sorted(r.Stdout); r.Code != 0 || !slices.Equal(got, want) {
		t.Fatalf("exit %d, %d records, want %d: %s", r.Code, len(got), len(want), r.Stderr)
	}
	if !strings.Contains(string(r.Stderr), "have the same store") && len(r.Stderr) > 0 {
		t.Errorf("%s", r.Stderr)
	}
	r = asked(bins.Collector, "report", "--by", "node", "--format", "json", "--server", addrs[0], "--node", "moved")
	n := asked(bins.Collector, "search", "--server", addrs[0], "-n", "moved", "--count")
	if !strings.Contains(string(r.Stdout), `"events": `+strings.TrimSpace(string(n.Stdout))+"}") {
		t.Errorf("%s, counted %s", r.Stdout, n.Stdout)
	}
	r = asked(bins.Collector, "hosts", "--server", addrs[0], "--format", "csv", "moved")
	if r.Code != 0 || !strings.Contains(string(r.Stdout), addrs[1]+" "+addrs[0]) {
		t.Errorf("exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}

	// One is killed.
	all[1].Kill()
	r = asked(append(first, "--format", "json")...)
	lines := strings.Split(strings.TrimSpace(string(r.Stdout)), "\n")
	var last struct {
		Incomplete []struct{ Collector, Lacks string }
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || len(last.Incomplete) != 1 || last.Incomplete[0].Collector != addrs[1] || last.Incomplete[0].Lacks != "all" || r.Code != 3 {
		t.Errorf("exit %d, %v: %s", r.Code, err, lines[len(lines)-1])
	}
	if !strings.Contains(string(r.Stderr), "the answer is not complete: it lacks all that it has of the collector "+addrs[1]) || !strings.Contains(string(r.Stdout), `"own2"`) {
		t.Errorf("%s", r.Stderr)
	}
	for _, words := range [][]string{{"hosts"}, {"coverage", "-n", "own2"}} {
		r = asked(append([]string{bins.Collector, words[0], "--server", addrs[0], "--format", "json"}, words[1:]...)...)
		if words[0] == "hosts" { // an array of what the others give line by line
			var list []json.RawMessage
			if err := json.Unmarshal(r.Stdout, &list); err != nil || len(list) < 3 {
				t.Fatalf("%v: %s", err, r.Stdout)
			}
			lines = []string{string(list[len(list)-1])}
		} else {
			lines = strings.Split(strings.TrimSpace(string(r.Stdout)), "\n")
		}
		last.Incomplete = nil
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || len(last.Incomplete) != 1 || last.Incomplete[0].Collector != addrs[1] || r.Code == 0 {
			t.Errorf("%q: exit %d, %v: %s", words, r.Code, err, r.Stdout)
		}
	}
	link := filepath.Join(dir, "ausearch")
	if err := os.Symlink(bins.Collector, link); err != nil {
		t.Fatal(err)
	}
	if r = asked(link, "--server", addrs[0], "-n", "own2", "--raw"); r.Code != 3 || !strings.Contains(string(r.Stderr), "not complete") || len(r.Stdout) == 0 {
		t.Errorf("ausearch: exit %d, %d bytes: %s", r.Code, len(r.Stdout), r.Stderr)
	}

	// Another one stands still.
	if err := all[2].Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{{"search", "-n", "own0", "--raw"}, {"report", "-x", "--summary"}, {"hosts"}, {"last"}} {
		r = asked(append([]string{bins.Collector, words[0], "--server", addrs[0]}, words[1:]...)...)
		if r.Code != 3 || strings.Count(string(r.Stderr), "the answer is not complete") != 2 || !strings.Contains(string(r.Stderr), "it does not answer within 4s") {
			t.Errorf("%q: exit %d: %s", words, r.Code, r.Stderr)
		}
	}
	if err := all[2].Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if r = asked(append(first, "--also", "none", "--raw")...); r.Code != 0 {
		t.Errorf("exit %d: %s", r.Code, r.Stderr)
	}
}
