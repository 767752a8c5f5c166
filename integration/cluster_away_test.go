//go:build cluster

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
	"github.com/auditfleet/auditfleet/internal/need"
)

// The cluster is away under load, until the collector's disk is full of what waits for it: senders are refused and wait, and the
// collector takes no more memory for it. Once the cluster is back, they go on, and what was acknowledged is found once, also after a start.
func TestClusterAway(t *testing.T) {
	need.Root(t)
	cl := cluster.Start(t, cluster.Shape{})
	dir := t.TempDir()
	need.Tmpfs(t, dir, "size=96m")
	o := harness.CollectorOptions{Store: dir + "/store", Cluster: storeOf(t, cl), Port: freePort(t), HTTP: freePort(t), Args: []string{"--tcp-max-per-addr", "1024"}}
	c := startCollector(t, o)
	fl := &harness.Fleet{Addr: c.Addr(), Senders: 80, Stock: 20, Window: 64, Gap: 20 * time.Millisecond, Ahead: 400}
	fl.Start()
	free := func() int64 {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		return int64(st.Bavail) * st.Bsize
	}
	sample := func(what string) (rss int64) {
		t.Helper()
		u, err := c.Usage()
		if err != nil {
			t.Fatal(err)
		}
		refused, _ := c.Metric("auditfleet_collector_rejected_records_total")
		waits, _ := c.Metric("auditfleet_collector_store_waiting_batches")
		t.Logf("%s: RSS %d MiB, most %d MiB; %d MiB free; %d acknowledged, %d sent again, %.0f refused, %.0f batches wait", what, u.RSS>>20, u.PeakRSS>>20, free()>>20, fl.Acked(), fl.Again(), refused, waits)
		return u.RSS
	}
	if !harness.Poll(time.Minute, func() bool { return fl.Acked() > 50_000 }) {
		t.Fatal("nothing is acknowledged")
	}
	sample("with the cluster")
	for _, n := range cl.Nodes {
		n.Kill()
	}
	if !harness.Poll(time.Minute, func() bool {
		waits, err := c.Metric("auditfleet_collector_store_waiting_batches")
		return err == nil && waits >= 5
	}) {
		t.Fatal("nothing waits for the cluster")
	}
	// Beside the reserve, an eighth of the disk, there is little room: these records take some bytes each, and a hundred batches take a minute to store once the cluster is back. It is more than
	// 4 MiB, though: a file of less is not begun anew for the room that what was delivered leaves in it.
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, free()-21<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for began, last := time.Now(), time.Now(); ; time.Sleep(time.Second) {
		refused, err := c.Metric("auditfleet_collector_rejected_records_total")
		if err == nil && refused > 0 {
			break
		}
		if time.Since(last) > 15*time.Second {
			sample(fmt.Sprintf("away for %v", time.Since(began).Round(time.Second)))
			last = time.Now()
		}
		if time.Since(began) > 2*time.Minute {
			t.Fatal("nobody is refused")
		}
	}
	// What comes is stored and leaves the journal, so some is taken on and on, until there is no more room.
	held := fl.Acked()
	if !harness.Poll(2*time.Minute, func() bool {
		before := fl.Acked()
		time.Sleep(5 * time.Second)
		sample("refusing")
		return fl.Acked() == before
	}) {
		t.Fatal("it goes on taking records with a full disk")
	}
	t.Logf("%d acknowledged since the first was refused", fl.Acked()-held)
	if most := sample("full"); most > 512<<20 {
		t.Errorf("it takes %d MiB", most>>20)
	}
	for _, n := range cl.Nodes {
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	back, from := fl.Acked(), time.Now()
	if !harness.Poll(4*time.Minute, func() bool { return fl.Acked() > back+20_000 }) {
		sample("back")
		t.Fatalf("senders wait although the cluster is back:\n%s", c.Output())
	}
	sample(fmt.Sprintf("back for %v", time.Since(from).Round(time.Second)))
	if err := fl.Drain(2 * time.Minute); err != nil {
		t.Fatal(err)
	}
	sample(fmt.Sprintf("drained, back for %v", time.Since(from).Round(time.Second)))
	if err := fl.Check(searched(t, c)); err != nil {
		t.Error(err)
	}
	if err := c.Terminate(2 * time.Minute); err != nil {
		t.Error(err)
	}
	c = startCollector(t, o)
	if err := fl.Check(searched(t, c)); err != nil {
		t.Errorf("after a start: %v", err)
	}
	sample("end")
}
