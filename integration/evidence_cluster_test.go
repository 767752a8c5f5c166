//go:build cluster

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
)

// sealedFleet are collectors of one cluster, each with a key.
type sealedFleet struct {
	*fleetOf
	keys map[string]string // by collector: the public part
}

func (f *sealedFleet) startSealed(name string) *harness.Collector {
	f.t.Helper()
	key := filepath.Join(f.t.TempDir(), name)
	r, err := harness.Run(time.Minute, binaries(f.t).Collector, "seal", "init", "--key", key, "--name", name+".example.net")
	if err != nil || r.Code != 0 {
		f.t.Fatalf("seal init: %v, exit %d %s", err, r.Code, r.Stderr)
	}
	for line := range strings.Lines(string(r.Stdout)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, name+".example.net+") {
			f.keys[name] = line
		}
	}
	return f.start(name, "--seal-key", key)
}

// bundle has a collector make a bundle of what the words find and checks it: what is said of both, and the exit codes.
func (f *sealedFleet) bundle(name string, words ...string) (made, checked string, codes [2]int) {
	f.t.Helper()
	dir := filepath.Join(f.t.TempDir(), "bundle")
	a, err := f.all[name].Command(2*time.Minute, "evidence", append(words, "--out", dir)...)
	if err != nil {
		f.t.Fatal(err)
	}
	made = string(a.Stdout) + string(a.Stderr)
	key := filepath.Join(f.t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(f.keys[name]+"\n"), 0o600); err != nil {
		f.t.Fatal(err)
	}
	b, err := harness.Run(2*time.Minute, binaries(f.t).Collector, "evidence", "verify", dir, "--key", key)
	if err != nil {
		f.t.Fatal(err)
	}
	return made, string(b.Stdout) + string(b.Stderr), [2]int{a.Code, b.Code}
}

// verify compares what a collector has in the cluster with a checkpoint of now.
func (f *sealedFleet) verify(name string, more ...string) (string, int) {
	f.t.Helper()
	r, err := f.all[name].Command(time.Minute, "seal", "checkpoint", "--now")
	if err != nil || r.Code != 0 {
		f.t.Fatalf("checkpoint: %v, exit %d %s", err, r.Code, r.Stderr)
	}
	at, key := filepath.Join(f.t.TempDir(), "checkpoint"), filepath.Join(f.t.TempDir(), "key")
	for file, text := range map[string]string{at: string(r.Stdout), key: f.keys[name] + "\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
	if r, err = f.all[name].Command(5*time.Minute, "verify", append(more, "--checkpoint", at, "--key", key)...); err != nil {
		f.t.Fatal(err)
	}
	return string(r.Stdout) + string(r.Stderr), r.Code
}

// mutate changes rows of the cluster behind the collectors' backs, and waits until it is done.
func mutate(t *testing.T, n *cluster.Node, how string) {
	t.Helper()
	const done = "SELECT countIf(is_done = 1) FROM system.mutations"
	before, err := n.Query(done)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Query("ALTER TABLE fleet.events " + how); err != nil {
		t.Fatal(err)
	}
	if !harness.Poll(2*time.Minute, func() bool {
		now, err := n.Query(done)
		return err == nil && now != before
	}) {
		t.Fatalf("%s is not done", how)
	}
}

// Of two collectors with events in one cluster each proves what it has stored, alone and for a program that knows no cluster, and says what the other one has. Whoever changes a row in
// ClickHouse, deletes one or puts one in is found: by evidence of anything of the same batch, by a question whose only answer he has deleted, and by verify.
func TestClusterEvidence(t *testing.T) {
	cl := cluster.Start(t, cluster.Shape{Shards: 2})
	f := &sealedFleet{collectorsOn(t, cl, "web1", "db1"), map[string]string{}}
	f.startSealed("east")
	f.startSealed("west")
	web, more, db := recordsOf(t, "web1", 1, 3000), recordsOf(t, "web1", 4, 200), recordsOf(t, "db1", 2, 1500)
	f.send("web1", "east", web)
	f.send("db1", "west", db)
	f.send("web1", "west", more)
	if !harness.Poll(time.Minute, func() bool { row, _ := hostOf(t, f.all["east"], "web1"); return len(row.Collectors) == 2 }) {
		t.Fatal("east does not hear of west")
	}
	made, _, _ := f.bundle("east", "-n", "web1")
	if !strings.Contains(made, "were received, and not stored yet, by the collector west") {
		t.Errorf("what west has not stored is not said:\n%s", made)
	}
	if made, checked, codes := f.bundle("west", "-n", "db1"); codes != [2]int{} || !strings.Contains(checked, "\ngood\n") || strings.Contains(made, "same cluster") {
		t.Errorf("%v\n%s%s", codes, made, checked)
	}

	made, checked, codes := f.bundle("east", "-n", "web1")
	if codes != [2]int{} || !strings.Contains(made, "events are proved") || strings.Contains(made, "not proved") || !strings.Contains(checked, "\ngood\n") {
		t.Fatalf("%v\n%s%s", codes, made, checked)
	}
	if !strings.Contains(made, "are in the same cluster, and not in this bundle: they were stored by the collector west") || !strings.Contains(checked, "stored by the collector west") {
		t.Errorf("what west has is not said:\n%s%s", made, checked)
	}
	if said, code := f.verify("east"); code != 0 || !strings.Contains(said, "nothing was changed: ") {
		t.Errorf("verify: exit %d\n%s", code, said)
	}

	// One event of east's, of which there is no other with its serial.
	node := cl.Nodes[0]
	row, err := node.Query("SELECT serial, toString(ts_ms), batch, seq FROM fleet.events WHERE node = 'web1' AND serial IN (SELECT serial FROM fleet.events WHERE node = 'web1' GROUP BY serial HAVING count() = 1) AND serial > 0 AND store IN (SELECT store FROM fleet.batches GROUP BY store ORDER BY sum(events) DESC LIMIT 1) ORDER BY seq LIMIT 1 FORMAT TSV")
	var serial, ms, batch, seq string
	if _, serr := fmt.Sscan(row, &serial, &ms, &batch, &seq); err != nil || serr != nil {
		t.Fatalf("%q, %v, %v", row, err, serr)
	}
	one := fmt.Sprintf("WHERE node = 'web1' AND serial = %s AND ts_ms = %s AND batch = %s AND seq = %s", serial, ms, batch, seq)
	found := func(what, want string, exits [2]int, words ...string) {
		t.Helper()
		made, checked, codes := f.bundle("east", words...)
		if !strings.Contains(made, want) || !strings.Contains(checked, want) || codes != exits {
			t.Errorf("%s: %v\n%s%s", what, codes, made, checked)
		}
	}
	mutate(t, node, "UPDATE text = replaceOne(text, 'web1', 'web2') "+one)
	found("a text changed", "CHANGED since it was stored", [2]int{2, 2}, "-n", "web1")
	if said, code := f.verify("east"); code != 1 || !strings.Contains(said, "batch "+batch+" of ") || !strings.Contains(said, "CHANGED") || !strings.Contains(said, "1 change;") {
		t.Errorf("verify with a text changed: exit %d\n%s", code, said)
	}
	mutate(t, node, "UPDATE text = replaceOne(text, 'web2', 'web1') "+one)
	if said, code := f.verify("east"); code != 0 {
		t.Errorf("put right again: exit %d\n%s", code, said)
	}
	mutate(t, node, "UPDATE f_pid = '1' "+one)
	if said, code := f.verify("east"); code != 1 || !strings.Contains(said, "1 events are not found by what they say") {
		t.Errorf("verify with a column changed: exit %d\n%s", code, said)
	}
	mutate(t, node, "DELETE "+one)
	found("an event deleted", "events are GONE", [2]int{2, 2}, "-n", "web1")
	found("a question that has no other answer", "TAKEN OUT of the cluster", [2]int{2, 0}, "-n", "web1", "-a", serial)
	if said, code := f.verify("east"); code != 1 || !strings.Contains(said, "1 of its ") || !strings.Contains(said, "are GONE") {
		t.Errorf("verify with an event deleted: exit %d\n%s", code, said)
	}
	if said, code := f.verify("east", "--from", "2020-01-01", "--to", "2020-01-02"); code != 0 || !strings.Contains(said, "batches of other days were not compared") {
		t.Errorf("verify of days without events: exit %d\n%s", code, said)
	}
	if _, err := node.Query("INSERT INTO fleet.events SELECT * FROM (SELECT * FROM fleet.events WHERE node = 'db1' LIMIT 1)"); err != nil {
		t.Error(err)
	}
	if said, code := f.verify("west"); code != 0 { // the same row once more is what an insert that was repeated leaves
		t.Errorf("verify with a row twice: exit %d\n%s", code, said)
	}
}
