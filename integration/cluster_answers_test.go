//go:build cluster

package integration

import (
	"bytes"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
	"github.com/auditfleet/auditfleet/internal/need"
)

// receivedAt is when a collector received a record, in JSON.
var receivedAt = regexp.MustCompile(`,"received":"[^"]*"`)

// answersAsked are questions to a collector: a command and its options. Its own records, of those that ask, are left out by the hosts' names.
func answersAsked(at time.Time) (all [][]string) {
	stamp := func(t time.Time) []string { return []string{t.Format("01/02/2006"), t.Format("15:04:05")} }
	span := func(d time.Duration) []string {
		return slices.Concat([]string{"-ts"}, stamp(at), []string{"-te"}, stamp(at.Add(d)))
	}
	for _, args := range [][]string{
		{}, {"-i"}, {"--format", "csv"}, {"--format", "json"}, {"--format", "text"}, {"--format", "line"}, {"--reverse"}, {"--count"}, {"--limit", "7"}, {"--reverse", "--limit", "7"},
		span(0), span(time.Minute), {"-k", "needle"}, {"-k", "needle", "-w"}, {"-k", "hay"}, {"-x", "/bin/", "--count"}, {"-x", "sudo"}, {"-f", "/etc"}, {"-f", "passwd", "-i"}, {"-p", "1"}, {"-pp", "1", "--count"},
		{"-ui", "0", "--count"}, {"-ul", "1000"}, {"-sv", "no"}, {"-sc", "openat", "-sv", "no"}, {"-e", "-13"}, {"-m", "USER_LOGIN"}, {"-m", "SYSCALL,PATH", "--count"}, {"-c", "tar"}, {"-tm", "pts"}, {"-hn", "10."},
		{"--field", "comm=cron"}, {"--field", "exe~^/usr/s?bin/[a-m]"}, {"--field", "exit<0", "--count"}, {"--field", "gid!=0", "--count"}, {"--field", "subj=unconfined"}, {"--expression", "auid >= 1000 && success == no"}, {"--around", "1s", "-k", "needle"},
		{"--regex", "sh(adow|ell)"}, {"--session", "3"},
	} {
		all = append(all, slices.Concat([]string{"search", "-n", "web*"}, args))
	}
	all = append(all, []string{"search", "-n", "web2"}, []string{"search", "-n", "web2", "-k", "needle", "-i"}, []string{"search", "-n", "web2", "-k", "needle", "--limit", "3", "--tree"})
	kinds := []string{"-au", "-l", "-m", "-u", "-a", "-ma", "--comm", "-x", "-f", "-s", "-p", "-k", "-tm", "--tty", "-h", "-c", "-n", "-r", "--integrity", "-cr", "--virt", "-e"}
	for _, kind := range kinds {
		all = append(all, []string{"report", "--node", "web*", kind, "-i"}, []string{"report", "--node", "web1,web3", kind, "--summary"})
	}
	for _, by := range []string{"exe", "auid", "uid", "key", "file", "type", "node", "syscall", "success", "exit", "arch", "gid", "subject", "exe,auid", "node,key", "type,success", "comm,file"} {
		all = append(all, []string{"report", "--node", "web*", "--by", by, "-i"}, append([]string{"report", "--node", "web*", "--by", by, "--every", "1m"}, span(5*time.Minute)...))
	}
	for _, every := range []string{"90s", "1m", "15m", "1h", "1d", "1w"} {
		all = append(all, []string{"report", "--node", "web*", "--every", every})
	}
	return append(all, []string{"report", "--node", "web*", "--summary"}, []string{"report", "--node", "web*"}, []string{"last"}, []string{"lastlog"})
}

// The same records in an embedded store and in a cluster of two shards give the same answers, byte for byte, on both outputs.
func TestClusterAnswers(t *testing.T) {
	need.Root(t)
	cl := cluster.Start(t, cluster.Shape{Shards: 2})
	start := time.Now().Add(-3 * time.Hour).Truncate(time.Hour)
	lines := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 7, Records: 20_000, Nodes: []string{"web1", "web2", "web3", "web4"}, Start: start, Step: 800 * time.Millisecond, RareKey: "needle", RareEvery: 300})
	asked := answersAsked(start.Add(20 * time.Minute))
	var answers [2][]*harness.Result
	for i, where := range []string{"", storeOf(t, cl)} {
		o := harness.CollectorOptions{Store: filepath.Join(t.TempDir(), "store"), Cluster: where}
		c := startCollector(t, o)
		p, err := harness.StartForwarder(binaries(t), t.TempDir(), c.Addr(), "stdin", feed(lines))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(2 * time.Minute); err != nil {
			t.Fatal(err)
		}
		sameRecords(t, lines, foundAll(t, c, len(lines), "-n", "web*"))
		for _, args := range asked {
			extra := []string{"--no-coverage-note"}
			if strings.HasPrefix(args[0], "last") {
				extra = nil
			}
			r, err := c.Command(2*time.Minute, args[0], slices.Concat(extra, args[1:])...)
			if err != nil {
				t.Fatal(err)
			}
			r.Stdout = receivedAt.ReplaceAll(r.Stdout, nil) // each collector was sent the records at a time of its own
			answers[i] = append(answers[i], r)
		}
	}
	some := 0
	for i, args := range asked {
		want, got := answers[0][i], answers[1][i]
		if len(want.Stdout) > 0 {
			some++
		}
		if want.Code != got.Code || !bytes.Equal(want.Stdout, got.Stdout) || !bytes.Equal(want.Stderr, got.Stderr) {
			t.Errorf("collector %s: exit %d and %d bytes from the cluster, %d and %d from the embedded store; %s\n%s", strings.Join(args, " "), got.Code, len(got.Stdout), want.Code, len(want.Stdout), firstDifference(want.Stdout, got.Stdout), got.Stderr)
		}
	}
	if t.Logf("%d questions, %d of which had an answer", len(asked), some); some < len(asked)/2 {
		t.Errorf("%d of %d questions had an answer", some, len(asked))
	}
}

// firstDifference is the first line that differs.
func firstDifference(want, got []byte) string {
	a, b := bytes.Split(want, []byte("\n")), bytes.Split(got, []byte("\n"))
	for i := range min(len(a), len(b)) {
		if !bytes.Equal(a[i], b[i]) {
			return "line " + string(b[i]) + ", want " + string(a[i])
		}
	}
	return "one is the beginning of the other"
}
