package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// What the collector's engine relies on of ClickHouse 18.16, and what it must not rely on. A version that does otherwise fails here first.

// facts is a table on one shard of three replicas.
type facts struct {
	*testing.T
	*Cluster
}

func startFacts(t *testing.T) *facts {
	f := &facts{t, Start(t, Shape{Replicas: 3, Keepers: 3, Settings: map[string]string{"insert_quorum": "2", "insert_quorum_timeout": "60000"}})}
	for _, n := range f.Nodes {
		f.do(n, `CREATE TABLE r (day Int32, n Int64, s String) ENGINE = ReplicatedReplacingMergeTree('/t/{shard}/r', '{replica}') PARTITION BY day ORDER BY n`)
	}
	return f
}

func (f *facts) do(n *Node, sql string) {
	f.Helper()
	if _, err := n.Query(sql); err != nil {
		f.Fatalf("%s: %v", sql, err)
	}
}

func (f *facts) want(n *Node, sql, want string) {
	f.Helper()
	if got, err := n.Query(sql); err != nil || got != want {
		f.Fatalf("%s: %s: got %q, %v; want %q", n.Name, sql, got, err, want)
	}
}

// fails fails the test unless a query fails with a code.
func (f *facts) fails(n *Node, sql string, code int) {
	f.Helper()
	if got, err := n.Query(sql); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("Code: %d,", code)) {
		f.Fatalf("%s: %s: got %q, %v; want code %d", n.Name, sql, got, err, code)
	}
}

// rows is an insert of so many rows from a number on.
func rows(from, n int) string {
	return fmt.Sprintf("INSERT INTO r SELECT 20261130, number, toString(number) FROM (SELECT number FROM system.numbers LIMIT %d) WHERE number >= %d", from+n, from)
}

const (
	sequential = " SETTINGS select_sequential_consistency = 1"
	// complete is what a replica says of itself that has all that was acknowledged.
	complete = "SELECT log_pointer > log_max_index AND inserts_in_queue = 0 AND absolute_delay = 0 AND is_session_expired = 0 AND is_readonly = 0 AND parts_to_check = 0 FROM system.replicas"
)

// A block that comes again is stored once, wherever and in whatever order of rows it comes; one with other bounds is there twice for
// who does not ask with FINAL.
func TestResends(t *testing.T) {
	f := startFacts(t)
	a, b, c := f.Nodes[0], f.Nodes[1], f.Nodes[2]
	f.do(a, rows(0, 1000))
	f.do(a, rows(0, 1000))
	f.do(b, rows(0, 1000))
	f.do(c, rows(0, 1000)+" ORDER BY number DESC")
	f.want(a, "SELECT count() FROM r", "1000")
	f.do(a, "SYSTEM STOP MERGES r")
	f.do(a, rows(500, 1000))
	f.want(a, "SELECT count() FROM r", "2000")
	f.want(a, "SELECT count() FROM r FINAL", "1500")
}

// Who lags answers with less. ClickHouse's own setting notices that only while the last thing is missing; what a replica says of itself tells.
func TestLaggingReplicaAnswersShort(t *testing.T) {
	f := startFacts(t)
	a, c := f.Nodes[0], f.Nodes[2]
	f.do(a, rows(0, 1000))
	if err := c.WaitFor(complete, "1"); err != nil {
		t.Fatal(err)
	}
	f.do(c, "SYSTEM STOP FETCHES r")
	f.do(a, rows(1000, 1000))
	f.want(c, "SELECT count() FROM r", "1000")
	f.fails(c, "SELECT count() FROM r"+sequential, 289)
	f.do(c, rows(2000, 1000)) // the next block is its own, which others fetch
	f.want(c, "SELECT count() FROM r"+sequential, "2000")
	f.want(c, complete, "0")
	f.want(a, "SELECT count() FROM r"+sequential, "3000")
	f.want(a, complete, "1")
	f.do(c, "SYSTEM START FETCHES r")
	if err := c.WaitFor(complete, "1"); err != nil {
		t.Fatal(err)
	}
	f.want(c, "SELECT count() FROM r"+sequential, "3000")
}

// A quorum that is not reached in time is no failure: the block may be there later. The same block again is refused until that is decided,
// also when its writer has died, and is then stored once.
func TestWriterDiesBeforeTheQuorum(t *testing.T) {
	f := startFacts(t)
	a, b, c := f.Nodes[0], f.Nodes[1], f.Nodes[2]
	f.do(a, rows(0, 1000))
	f.do(b, "SYSTEM STOP FETCHES r")
	f.do(c, "SYSTEM STOP FETCHES r")
	if _, err := f.inTime(a, rows(1000, 1000)); err == nil || !strings.Contains(err.Error(), "Code: 319,") {
		t.Fatalf("a quorum that was not reached: %v", err)
	}
	f.fails(a, rows(1000, 1000), 286)
	f.fails(b, rows(5000, 1000), 286)
	a.Kill()
	f.do(b, "SYSTEM START FETCHES r")
	f.do(c, "SYSTEM START FETCHES r")
	if !harness.Poll(patience, func() bool { _, err := b.Query(rows(1000, 1000)); return err == nil }) {
		t.Fatal("the block is not taken any more")
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	for _, n := range f.Nodes {
		if err := n.WaitFor(complete, "1"); err != nil {
			t.Fatal(err)
		}
		f.want(n, "SELECT count(), uniqExact(n) FROM r"+sequential, "2000\t2000")
	}
}

// inTime has a node answer with a quorum that has three seconds.
func (f *facts) inTime(n *Node, sql string) (string, error) {
	return n.ask(sql, map[string]string{"insert_quorum_timeout": "3000"})
}

// A server that was started again answers with nothing, until ZooKeeper has forgotten the one that it was: only what it says of its delay tells.
func TestStartedReplicaAnswersShort(t *testing.T) {
	f := startFacts(t)
	a, b := f.Nodes[0], f.Nodes[1]
	f.do(a, rows(0, 1000))
	if err := b.WaitFor(complete, "1"); err != nil {
		t.Fatal(err)
	}
	b.Kill()
	if err := b.Wipe(); err != nil {
		t.Fatal(err)
	}
	if err := b.CopyTables(a); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		said, err := b.Query(complete)
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.Query("SELECT count() FROM r")
		if err != nil {
			t.Fatal(err)
		}
		if said == "1" && got != "1000" {
			t.Fatalf("it says that it is complete, and has %s of 1000", got)
		}
		if said == "1" {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	if err := b.WaitFor(complete, "1"); err != nil {
		t.Fatal(err)
	}
	f.want(b, "SELECT count() FROM r", "1000")
}

// Without ZooKeeper nothing is stored and nobody calls himself complete, and both come back by themselves.
func TestKeepersLost(t *testing.T) {
	f := startFacts(t)
	a := f.Nodes[0]
	f.do(a, rows(0, 1000))
	f.Keepers[0].Kill()
	f.Keepers[1].Kill()
	for _, n := range f.Nodes {
		if err := n.WaitFor("SELECT is_session_expired FROM system.replicas", "1"); err != nil {
			t.Fatal(err)
		}
		f.want(n, complete, "0")
		if err := n.WaitFor("SELECT is_readonly FROM system.replicas", "1"); err != nil { // until then an insert fails with 225
			t.Fatal(err)
		}
		f.fails(n, rows(1000, 1000), 242)
		f.fails(n, "SELECT count() FROM r"+sequential, 999)
	}
	for _, k := range f.Keepers[:2] {
		if err := k.launch(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range f.Nodes {
		if err := n.WaitFor(complete, "1"); err != nil {
			t.Fatal(err)
		}
		f.want(n, "SELECT count() FROM r"+sequential, "1000")
	}
	f.do(a, rows(1000, 1000))
}
