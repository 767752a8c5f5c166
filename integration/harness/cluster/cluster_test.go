package cluster

import (
	"strings"
	"testing"
)

// TestCluster checks the harness itself: a replicated table over two shards, and what can be done to servers.
func TestCluster(t *testing.T) {
	c := Start(t, Shape{Shards: 1, Replicas: 2, Keepers: 1, DiskMiB: 64})
	ask := func(n *Node, sql, want string) {
		t.Helper()
		if got, err := n.Query(sql); err != nil || got != want {
			t.Fatalf("%s: %s: got %q, %v; want %q", n.Name, sql, got, err, want)
		}
	}
	const table = `CREATE TABLE r (n Int64, s String) ENGINE = ReplicatedReplacingMergeTree('/t/{shard}/r', '{replica}') ORDER BY n`
	a, b := c.Nodes[0], c.Nodes[1]
	ask(a, table, "")
	ask(b, table, "")
	ask(a, "INSERT INTO r VALUES (1, 'one')", "")
	if err := b.WaitFor("SELECT s FROM r", "one"); err != nil {
		t.Fatal(err)
	}
	a.Kill()
	if _, err := a.Query("SELECT 1"); err == nil {
		t.Fatal("a killed server answers")
	}
	ask(b, "INSERT INTO r VALUES (2, 'two')", "")
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	if err := a.WaitFor("SELECT count() FROM r", "2"); err != nil {
		t.Fatal(err)
	}
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.Wipe(); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	if err := a.FillDisk(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Query("INSERT INTO r SELECT number, toString(number) FROM system.numbers LIMIT 100000"); err == nil || !strings.Contains(err.Error(), "space") {
		t.Fatalf("an insert into a full disk: %v", err)
	}
	if err := a.FreeDisk(); err != nil {
		t.Fatal(err)
	}
	ask(a, "INSERT INTO r VALUES (3, 'three')", "")
	k := c.Keepers[0]
	k.Kill()
	if k.Mode() != "" {
		t.Fatal("a killed keeper serves")
	}
	if _, err := a.Query("INSERT INTO r VALUES (4, 'four')"); err == nil {
		t.Fatal("an insert without a keeper was taken")
	}
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	if err := a.WaitFor("SELECT is_readonly FROM system.replicas", "0"); err != nil {
		t.Fatal(err)
	}
}
