//go:build cluster

package integration

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
	"github.com/auditfleet/auditfleet/internal/testca"
)

// fleetOf are collectors of one cluster, which may ask one another, and certificates of hosts.
type fleetOf struct {
	t     *testing.T
	pki   string
	store string
	all   map[string]*harness.Collector
	opts  map[string]harness.CollectorOptions
	grpc  map[string]int
}

func collectorsOn(t *testing.T, cl *cluster.Cluster, hosts ...string) *fleetOf {
	t.Helper()
	f := &fleetOf{t: t, pki: t.TempDir(), store: storeOf(t, cl), all: map[string]*harness.Collector{}, opts: map[string]harness.CollectorOptions{}, grpc: map[string]int{}}
	ca := testca.New(t, f.pki)
	ca.Issue(f.pki, func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"auditfleet:role=send,read"} }, "collector", "localhost")
	for _, h := range hosts {
		ca.Issue(f.pki, nil, h)
	}
	return f
}

// start starts a collector, or starts one again.
func (f *fleetOf) start(name string, args ...string) *harness.Collector {
	f.t.Helper()
	o, ok := f.opts[name]
	if !ok {
		f.grpc[name] = freePort(f.t)
		o = harness.CollectorOptions{Store: f.t.TempDir() + "/" + name, Cluster: f.store, Port: freePort(f.t), HTTP: freePort(f.t),
			Args: append(append(tlsArgs(f.pki, "collector"), "--grpc", fmt.Sprintf("127.0.0.1:%d", f.grpc[name]), "--cluster-name", name, "--cluster-address", fmt.Sprintf("localhost:%d", f.grpc[name])), args...)}
		f.opts[name] = o
	}
	f.all[name] = startCollector(f.t, o)
	return f.all[name]
}

// send has a forwarder send lines by gRPC and waits for its end, at which all are acknowledged.
func (f *fleetOf) send(host, to string, lines []string) {
	f.t.Helper()
	p, err := harness.StartForwarder(binaries(f.t), f.t.TempDir(), fmt.Sprintf("localhost:%d", f.grpc[to]), "stdin", feed(lines), append(tlsArgs(f.pki, host), "--transport", "grpc")...)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := p.Wait(2 * time.Minute); err != nil {
		f.t.Fatal(err)
	}
}

// recordsOf are records of a host.
func recordsOf(t *testing.T, host string, seed uint64, n int) []string {
	t.Helper()
	return realLog(t, harness.RecordedRaw(), harness.Make{Seed: seed, Records: n, Nodes: []string{host}})
}

// hostOf is what `collector hosts` says of a host, as JSON.
func hostOf(t *testing.T, c *harness.Collector, host string) (row struct {
	Records    uint64 `json:"records"`
	Collectors []struct {
		Collector string `json:"collector"`
		Records   uint64 `json:"records"`
		Unstored  uint64 `json:"unstored"`
		State     string `json:"state"`
		LastSeen  string `json:"last_seen"`
	} `json:"collectors"`
}, said string) {
	t.Helper()
	r, err := c.Command(time.Minute, "hosts", "--format", "json", host)
	if err != nil {
		t.Fatal(err)
	}
	var rows []json.RawMessage
	if err := json.Unmarshal(r.Stdout, &rows); err != nil || len(rows) != 1 {
		return row, fmt.Sprintf("exit %d: %v %s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	if err := json.Unmarshal(rows[0], &row); err != nil {
		t.Fatal(err)
	}
	return row, string(r.Stderr)
}

// Two collectors keep events in one cluster. Any answers for both, with what the other has not stored yet; hosts says who has whom; and of one that was
// killed the other says what its answers lack, until it runs again.
func TestClusterCollectors(t *testing.T) {
	f := collectorsOn(t, cluster.Start(t, cluster.Shape{}), "web1", "db1")
	a, b := f.start("east"), f.start("west")
	web, db := recordsOf(t, "web1", 1, 2000), recordsOf(t, "db1", 2, 1500)
	f.send("web1", "east", web)
	f.send("db1", "west", db)

	// What east has in memory, west finds; and the other way round.
	sameRecords(t, web, foundAll(t, b, len(web), "-n", "web1"))
	sameRecords(t, db, foundAll(t, a, len(db), "-n", "db1"))
	both := append(slices.Clone(web), db...)
	sameRecords(t, both, foundAll(t, b, len(both), "-n", "web1,db1"))
	for _, c := range []*harness.Collector{a, b} {
		var count [2]string
		for i, of := range []string{"web1", "db1"} {
			r, err := c.Search(time.Minute, "--count", "-n", of)
			if err != nil || r.Code != 0 {
				t.Fatalf("count: %v, exit %d %s", err, r.Code, r.Stderr)
			}
			count[i] = strings.TrimSpace(string(r.Stdout))
		}
		r, err := c.Command(time.Minute, "report", "--by", "node", "--node", "web1,db1")
		if err != nil || r.Code != 0 || !strings.Contains(string(r.Stdout), count[0]) || !strings.Contains(string(r.Stdout), count[1]) {
			t.Errorf("report --by node has not %v: %v, exit %d\n%s%s", count, err, r.Code, r.Stdout, r.Stderr)
		}
	}
	if !harness.Poll(time.Minute, func() bool {
		row, _ := hostOf(t, b, "web1")
		return row.Records == uint64(len(web)) && len(row.Collectors) == 1 && row.Collectors[0].Collector == "east" && row.Collectors[0].LastSeen != ""
	}) {
		row, said := hostOf(t, b, "web1")
		t.Errorf("who has web1: %+v %s", row, said)
	}

	// Follow of all.
	follow, err := harness.Start(harness.Spec{Name: "search --follow", Args: []string{binaries(t).Collector, "search", "--store", f.opts["west"].Store, "--follow", "--format", "raw", "-n", "web1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(follow.Kill)
	more := recordsOf(t, "web1", 3, 200)
	time.Sleep(3 * time.Second) // it has no other sign that it follows
	f.send("web1", "east", more)
	if !harness.Poll(time.Minute, func() bool { return strings.Contains(follow.Output(), more[len(more)-1]) }) {
		t.Errorf("who follows at west has not what east received: %s", follow.Output())
	}
	follow.Kill()
	web = append(web, more...)

	// One that was killed: the answer says what it lacks, at once and in JSON; what hosts says of it.
	last := recordsOf(t, "web1", 4, 100)
	f.send("web1", "east", last)
	web = append(web, last...)
	a.Kill()
	r, err := b.Search(time.Minute, "--format", "json", "-n", "db1")
	if err != nil || r.Code != 3 || !strings.Contains(string(r.Stderr), "lacks what it has not stored yet of the collector east") || !strings.Contains(string(r.Stdout), `"incomplete":[{"collector":"east"`) {
		t.Errorf("a search with east gone: %v, exit %d\n%.500s\n%s", err, r.Code, r.Stdout[max(0, len(r.Stdout)-500):], r.Stderr)
	}
	r, err = b.Command(time.Minute, "report", "--by", "node")
	if err != nil || r.Code != 3 || !strings.Contains(string(r.Stderr), "collector east") {
		t.Errorf("a report with east gone: %v, exit %d\n%s", err, r.Code, r.Stderr)
	}
	if !harness.Poll(2*time.Minute, func() bool {
		row, said := hostOf(t, b, "web1")
		return len(row.Collectors) == 1 && row.Collectors[0].State == "silent" && strings.Contains(said, "the collector east was not heard of since")
	}) {
		row, said := hostOf(t, b, "web1")
		t.Errorf("a collector that is not heard of: %+v %s", row, said)
	}
	a = f.start("east")
	if !harness.Poll(time.Minute, func() bool {
		r, err := b.Search(time.Minute, "-n", "db1")
		return err == nil && r.Code == 0
	}) {
		t.Error("answers lack something with east back")
	}
	sameRecords(t, web, foundAll(t, b, len(web), "-n", "web1"))
	// One that was stopped holds nothing back.
	if err := a.Terminate(time.Minute); err != nil {
		t.Fatal(err)
	}
	r, err = b.Search(time.Minute, "--format", "raw", "-n", "web1")
	if n := strings.Count(string(r.Stdout), "\n"); err != nil || r.Code != 0 || n != len(web) {
		t.Errorf("with east stopped: %v, exit %d, %d records %s", err, r.Code, n, r.Stderr)
	}
}

// A host moves between collectors in mid-stream, each of which is killed with kill -9 at its turn, and goes on where it was: what was acknowledged is found at any of them once, and
// counted once.
func TestClusterHostMoves(t *testing.T) {
	f := collectorsOn(t, cluster.Start(t, cluster.Shape{}), "app1")
	f.start("east")
	f.start("west")
	ways := map[string]*movable{}
	var procs []*harness.Proc
	stop := make(chan struct{})
	var writers []*writer
	for i, host := range []string{"app1", "db1"} {
		m, err := harness.NewProxy(f.addrOf(host, "east"), 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		ways[host] = &movable{m}
		in, out := io.Pipe()
		w := &writer{host: host, pipe: out, lines: recordsOf(t, host, uint64(40+i), 20_000)}
		args := []string{"--drain-timeout", "5m"}
		to := fmt.Sprintf("127.0.0.1:%d", m.Port())
		if host == "app1" {
			to = fmt.Sprintf("localhost:%d", m.Port())
			args = append(args, append(tlsArgs(f.pki, host), "--transport", "grpc")...)
		}
		p, err := harness.StartForwarder(binaries(t), t.TempDir(), to, "stdin", in, args...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { out.Close(); p.Kill() })
		procs, writers = append(procs, p), append(writers, w)
		go w.write(stop)
	}
	at := "east"
	for turn := range 6 {
		time.Sleep(4 * time.Second)
		other := map[string]string{"east": "west", "west": "east"}[at]
		for host, m := range ways {
			m.to(f.addrOf(host, other))
		}
		if turn%2 == 0 {
			f.all[at].Kill()
			time.Sleep(time.Second)
			f.start(at)
		}
		at = other
	}
	time.Sleep(2 * time.Second)
	close(stop)
	for i, p := range procs {
		if err := p.Wait(3 * time.Minute); err != nil {
			t.Errorf("%s: %v\n%s", writers[i].host, err, p.Output())
		}
	}
	for _, name := range []string{"east", "west"} {
		for _, w := range writers {
			sent := w.lines[:w.sent.Load()]
			sameRecords(t, sent, foundAll(t, f.all[name], len(sent), "-n", w.host))
		}
	}
	// All of it stored, and read again.
	if !harness.Poll(time.Minute, func() bool {
		for _, name := range []string{"east", "west"} { // what is open is left until it is complete
			if err := f.all[name].Signal(syscall.SIGUSR1); err != nil {
				t.Fatal(err)
			}
		}
		row, _ := hostOf(t, f.all["east"], "app1")
		for _, c := range row.Collectors {
			if c.Unstored > 0 {
				return false
			}
		}
		return len(row.Collectors) == 2
	}) {
		row, said := hostOf(t, f.all["east"], "app1")
		t.Errorf("both have stored all that they received: %+v %s", row, said)
	}
	for _, w := range writers {
		sent := w.lines[:w.sent.Load()]
		sameRecords(t, sent, foundAll(t, f.all["west"], len(sent), "-n", w.host))
		// A report counts what a search finds.
		found, err := f.all["west"].Search(time.Minute, "--count", "-n", w.host)
		if err != nil || found.Code != 0 {
			t.Fatalf("%v, exit %d %s", err, found.Code, found.Stderr)
		}
		r, err := f.all["west"].Command(time.Minute, "report", "--by", "node", "--node", w.host)
		if n := strings.TrimSpace(string(found.Stdout)); err != nil || r.Code != 0 || !strings.Contains(string(r.Stdout), " "+n+"\n") {
			t.Errorf("a report of %s: %v, exit %d, %s events are found\n%s%s", w.host, err, r.Code, n, r.Stdout, r.Stderr)
		}
	}
}

// movable is the way of a host to a collector, which changes.
type movable struct{ *harness.Proxy }

// to ends what there is and has new connections go to another collector.
func (m *movable) to(addr string) {
	m.SetTarget(addr)
	m.Cut()
}

// addrOf is where a collector receives from a host.
func (f *fleetOf) addrOf(host, name string) string {
	if host == "db1" {
		return f.all[name].Addr()
	}
	return fmt.Sprintf("127.0.0.1:%d", f.grpc[name])
}

// A collector is lost with its journal, and with what it had not stored. An administrator says so, and hears how many records of which hosts that were; coverage has
// them from then on, and nothing else is missing.
func TestClusterCollectorLost(t *testing.T) {
	f := collectorsOn(t, cluster.Start(t, cluster.Shape{}), "web1", "db1")
	east, west := f.start("east"), f.start("west")
	stored, lost := recordsOf(t, "web1", 50, 700), recordsOf(t, "web1", 51, 300)
	f.send("web1", "east", stored)
	if err := east.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	f.send("db1", "west", recordsOf(t, "db1", 52, 100))
	has := func(unstored uint64) bool {
		row, _ := hostOf(t, west, "web1")
		return len(row.Collectors) == 1 && row.Collectors[0].Records >= uint64(len(stored)) && row.Collectors[0].Unstored == unstored
	}
	if !harness.Poll(time.Minute, func() bool { return has(0) }) {
		row, said := hostOf(t, west, "web1")
		t.Fatalf("all of web1 is stored: %+v %s", row, said)
	}
	f.send("web1", "east", lost)
	if !harness.Poll(time.Minute, func() bool { return has(uint64(len(lost))) }) {
		row, said := hostOf(t, west, "web1")
		t.Fatalf("west knows what east has not stored: %+v %s", row, said)
	}
	if r, err := west.Command(time.Minute, "hosts", "--forget-collector", "east"); err != nil || r.Code != 2 || !strings.Contains(string(r.Stderr), "runs") {
		t.Errorf("a collector that runs is forgotten: %v, exit %d %s%s", err, r.Code, r.Stdout, r.Stderr)
	}
	east.Kill()
	if err := os.RemoveAll(f.opts["east"].Store); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("lost with it: %d records of web1", len(lost))
	var r *harness.Result
	var err error
	if !harness.Poll(2*time.Minute, func() bool {
		r, err = west.Command(time.Minute, "hosts", "--forget-collector", "east")
		return err == nil && r.Code == 0
	}) || !strings.Contains(string(r.Stdout), want) {
		t.Fatalf("forgetting east: %v, exit %d %s%s", err, r.Code, r.Stdout, r.Stderr)
	}
	r, err = west.Command(time.Minute, "coverage", "-n", "web1")
	if text := string(r.Stdout); err != nil || r.Code != 3 || !strings.Contains(text, fmt.Sprintf("collector-lost at collector: %d records", len(lost))) {
		t.Errorf("coverage of web1: %v, exit %d %s%s", err, r.Code, text, r.Stderr)
	}
	sameRecords(t, stored, foundAll(t, west, len(stored), "-n", "web1"))
	row, said := hostOf(t, west, "web1")
	if len(row.Collectors) != 1 || row.Collectors[0].State != "lost" || !strings.Contains(said, "east is gone for good") {
		t.Errorf("hosts: %+v %s", row, said)
	}
}
