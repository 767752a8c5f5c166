//go:build cluster

package integration

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
)

// writeConf writes what a collector's settings say in a file; each line is one.
func writeConf(t *testing.T, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A class of events that takes more room than it may is dropped from the cluster, and nothing else: answers are those of before without it, coverage says so, the log has it, and what
// stays of the same batches is proved as ever. Whoever changes that, or takes it out, is found.
func TestClusterRetain(t *testing.T) {
	cl := cluster.Start(t, cluster.Shape{Shards: 2})
	f := &sealedFleet{collectorsOn(t, cl, "web1", "db1"), map[string]string{}}
	conf := filepath.Join(t.TempDir(), "collector.conf")
	writeConf(t, conf, "retain = web*: 400d", "retain = db*: 400d")
	key := filepath.Join(t.TempDir(), "east")
	r, err := harness.Run(time.Minute, binaries(t).Collector, "seal", "init", "--key", key, "--name", "east.example.net")
	if err != nil || r.Code != 0 {
		t.Fatalf("seal init: %v, exit %d %s", err, r.Code, r.Stderr)
	}
	for line := range strings.Lines(string(r.Stdout)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "east.example.net+") {
			f.keys["east"] = line
		}
	}
	east := f.start("east", "--seal-key", key, "--config", conf)
	web, db := recordsOf(t, "web1", 1, 3000), recordsOf(t, "db1", 2, 2000)
	f.send("web1", "east", web)
	f.send("db1", "east", db)
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := east.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGUSR1)
	node := cl.Nodes[0]
	classes := func() string {
		t.Helper()
		out, err := node.Query("SELECT class, sum(events), uniqExact(part) FROM fleet.batches WHERE events > 0 AND class NOT LIKE '* %' GROUP BY class ORDER BY class FORMAT TSV")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if !harness.Poll(time.Minute, func() bool { return strings.Count(classes(), "\t1") == 2 }) {
		t.Fatalf("classes in the cluster: %q", classes())
	}
	sameRecords(t, web, foundAll(t, east, len(web), "-n", "web1"))
	sameRecords(t, db, foundAll(t, east, len(db), "-n", "db1"))
	report := func() map[string]string {
		t.Helper()
		r, err := east.Command(time.Minute, "report", "--by", "node")
		if err != nil || r.Code != 0 {
			t.Fatalf("report: %v, exit %d %s", err, r.Code, r.Stderr)
		}
		of := map[string]string{}
		for line := range strings.Lines(string(r.Stdout)) {
			if words := strings.Fields(line); len(words) > 1 {
				of[words[0]] = words[len(words)-1]
			}
		}
		return of
	}
	before := report()
	if made, checked, codes := f.bundle("east"); codes != [2]int{} || strings.Contains(made, "not proved") || !strings.Contains(checked, "\ngood\n") {
		t.Fatalf("%v\n%s%s", codes, made, checked)
	}
	if said, code := f.verify("east"); code != 0 || strings.Contains(said, "dropped") {
		t.Fatalf("verify: exit %d\n%s", code, said)
	}

	writeConf(t, conf, "retain = web*: 400d", "retain = db*: 400d, 1K")
	signal(syscall.SIGHUP)
	signal(syscall.SIGUSR1)
	if !harness.Poll(time.Minute, func() bool { return len(found(t, east, "-n", "db1")) == 0 }) {
		t.Fatalf("db1 is still there: %q", classes())
	}
	sameRecords(t, web, foundAll(t, east, len(web), "-n", "web1"))
	after := report()
	if after["web1"] != before["web1"] || after["db1"] != "" || before["db1"] == "" {
		t.Errorf("reports: %v, and now %v", before, after)
	}
	coverage := func(host string) string {
		t.Helper()
		r, err := east.Command(time.Minute, "coverage", "-n", host, "-ts", "yesterday")
		if err != nil {
			t.Fatal(err)
		}
		return string(r.Stdout) + string(r.Stderr)
	}
	var said string
	if !harness.Poll(time.Minute, func() bool { said = coverage("db1"); return strings.Contains(said, "retention") }) {
		t.Errorf("coverage of db1:\n%s", said)
	}
	if said := coverage("web1"); strings.Contains(said, "retention") {
		t.Errorf("coverage of web1:\n%s", said)
	}
	const dropped = `of the class "db*"`
	made, checked, codes := f.bundle("east")
	if codes != [2]int{} || !strings.Contains(made, dropped) || !strings.Contains(made, "was dropped by this collector, as its log says") || strings.Contains(made, "not proved") || !strings.Contains(checked, dropped) || !strings.Contains(checked, "\ngood\n") {
		t.Errorf("%v\n%s%s", codes, made, checked)
	}
	if said, code := f.verify("east"); code != 0 || !strings.Contains(said, `what they had of the class "db*" was dropped`) || strings.Contains(said, "cluster's word") {
		t.Errorf("verify: exit %d\n%s", code, said)
	}

	// Attacks on what stays of these batches.
	row, err := node.Query("SELECT serial, toString(ts_ms), batch, seq FROM fleet.events WHERE node = 'web1' AND serial > 0 ORDER BY seq LIMIT 1 FORMAT TSV")
	var serial, ms, batch, seq string
	if _, serr := fmt.Sscan(row, &serial, &ms, &batch, &seq); err != nil || serr != nil {
		t.Fatalf("%q, %v, %v", row, err, serr)
	}
	one := fmt.Sprintf("WHERE node = 'web1' AND serial = %s AND ts_ms = %s AND batch = %s AND seq = %s", serial, ms, batch, seq)
	tampered := func(what, bundle, verify string) {
		t.Helper()
		made, checked, codes := f.bundle("east", "-n", "web1")
		if codes[0] != 2 || !strings.Contains(made, bundle) || !strings.Contains(checked, bundle) {
			t.Errorf("%s: %v\n%s%s", what, codes, made, checked)
		}
		if said, code := f.verify("east"); code == 0 || !strings.Contains(said, verify) {
			t.Errorf("%s: verify: exit %d\n%s", what, code, said)
		}
	}
	mutate(t, node, "UPDATE text = replaceOne(text, 'web1', 'web2') "+one)
	tampered("a text changed", "CHANGED since it was stored", "CHANGED")
	mutate(t, node, "UPDATE text = replaceOne(text, 'web2', 'web1') "+one)
	if said, code := f.verify("east"); code != 0 {
		t.Errorf("put right again: exit %d\n%s", code, said)
	}
	mutate(t, node, "DELETE "+one)
	tampered("an event deleted", "events are GONE", "are GONE")
	for _, n := range cl.Nodes {
		mutate(t, n, "DELETE WHERE node = 'web1' AND batch = "+batch)
	}
	tampered("a class deleted", "TAKEN OUT of the cluster", `class "web*": all of its`)
}

// Rules that a careless administrator changes all the time, twenty of them at once, while hosts send and the collector and servers are killed with kill -9: what was acknowledged is
// there once, in few parts, and compared with the log nothing was changed.
func TestClusterRetainCareless(t *testing.T) {
	cl := cluster.Start(t, cluster.Shape{Replicas: 3})
	f := &sealedFleet{collectorsOn(t, cl, "web1", "db1"), map[string]string{}}
	conf := filepath.Join(t.TempDir(), "collector.conf")
	rng := rand.New(rand.NewPCG(7, 8))
	rules := func() {
		var lines []string
		for _, i := range rng.Perm(20) {
			lines = append(lines, fmt.Sprintf("retain = %s: %dd", []string{"web*", "db?", "key noise", "nobody*", fmt.Sprintf("h%d*", i), fmt.Sprintf("key k%d", rng.IntN(50))}[rng.IntN(6)], 300+i))
		}
		seen, once := map[string]bool{}, []string{"max_days = 500"}
		for _, l := range lines {
			if class, _, _ := strings.Cut(l, ":"); !seen[class] {
				seen[class], once = true, append(once, l)
			}
		}
		writeConf(t, conf, once...)
	}
	rules()
	key := filepath.Join(t.TempDir(), "east")
	r, err := harness.Run(time.Minute, binaries(t).Collector, "seal", "init", "--key", key, "--name", "east.example.net")
	if err != nil || r.Code != 0 {
		t.Fatalf("seal init: %v, exit %d %s", err, r.Code, r.Stderr)
	}
	for line := range strings.Lines(string(r.Stdout)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "east.example.net+") {
			f.keys["east"] = line
		}
	}
	f.start("east", "--seal-key", key, "--config", conf)
	stop := make(chan struct{})
	var procs []*harness.Proc
	var writers []*writer
	for i, host := range []string{"web1", "db1"} {
		in, out := io.Pipe()
		w := &writer{host: host, pipe: out, lines: recordsOf(t, host, uint64(60+i), 30_000)}
		p, err := harness.StartForwarder(binaries(t), t.TempDir(), fmt.Sprintf("localhost:%d", f.grpc["east"]), "stdin", in, append(tlsArgs(f.pki, host), "--transport", "grpc", "--drain-timeout", "5m")...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { out.Close(); p.Kill() })
		procs, writers = append(procs, p), append(writers, w)
		go w.write(stop)
	}
	for turn := range 40 {
		rules()
		if err := f.all["east"].Signal([]syscall.Signal{syscall.SIGHUP, syscall.SIGHUP, syscall.SIGHUP, syscall.SIGUSR1}[turn%4]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(400 * time.Millisecond)
		switch turn % 10 {
		case 3, 8:
			f.all["east"].Kill()
			f.start("east")
		case 5:
			n := cl.Nodes[turn/10%3]
			n.Kill()
			if err := n.Start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	for i, p := range procs {
		if err := p.Wait(3 * time.Minute); err != nil {
			t.Errorf("%s: %v\n%s", writers[i].host, err, p.Output())
		}
	}
	for _, w := range writers {
		sent := w.lines[:w.sent.Load()]
		sameRecords(t, sent, foundAll(t, f.all["east"], len(sent), "-n", w.host))
		t.Logf("%s: %d records", w.host, len(sent))
	}
	for range 2 { // what is open is left until it is complete
		if err := f.all["east"].Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
	}
	if said, code := f.verify("east"); code != 0 || strings.Contains(said, "dropped") {
		t.Errorf("verify: exit %d\n%s", code, said)
	}
	if made, checked, codes := f.bundle("east", "-n", "web1"); codes != [2]int{} || strings.Contains(made, "not proved") || !strings.Contains(checked, "\ngood\n") {
		t.Errorf("%v\n%s%s", codes, made, checked)
	}
	parts, err := cl.Nodes[0].Query("SELECT uniqExact(class), uniqExact(part), count() FROM fleet.batches FORMAT TSV")
	t.Logf("classes, parts, rows: %s, %v", parts, err)
}
