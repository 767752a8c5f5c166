//go:build cluster

package integration

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
	"github.com/auditfleet/auditfleet/internal/need"
)

// storeOf is the --store of a collector whose events are in a cluster.
func storeOf(t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(cluster.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("clickhouse://%s/fleet?user=%s&password_file=%s&shards=%d", strings.Join(c.Addrs(), ","), cluster.User, password, c.Shape.Shards)
}

// writer is a host that goes on sending until it is told to end.
type writer struct {
	host  string
	lines []string
	proc  *harness.Proc
	pipe  *io.PipeWriter
	sent  atomic.Int64 // lines that its sender has read
}

// write gives the sender a line every few milliseconds until stop is closed, and then ends its input.
func (w *writer) write(stop <-chan struct{}) {
	defer w.pipe.Close()
	for i, line := range w.lines {
		select {
		case <-stop:
			return
		case <-time.After(4 * time.Millisecond):
		}
		if _, err := io.WriteString(w.pipe, line+"\n"); err != nil {
			return
		}
		w.sent.Store(int64(i + 1))
	}
}

// asker asks again and again, and finds whether an answer is short.
type asker struct {
	bins          *harness.Binaries
	socket        string // the collector's: without one, nobody is to open the store in its place
	fixedHost     string // has so many records from the start
	fixed         int
	right, failed atomic.Int64

	mu         sync.Mutex
	last       map[string]int // guarded by mu: by host, how many records the last right answer had
	lastFailed string         // guarded by mu
	wrong      []string       // guarded by mu
}

// ask asks for a host's records, and returns how many an answer that did not fail had.
func (a *asker) ask(host string) (n int, ok bool) {
	a.mu.Lock()
	least := a.last[host]
	a.mu.Unlock()
	r, err := harness.Run(3*time.Minute, a.bins.Collector, "search", "--api", a.socket, "--no-coverage-note", "--format", "raw", "-n", host)
	said := strings.TrimSpace(string(r.Stderr))
	nothing := r.Code == 1 && len(r.Stdout) == 0 && (said == "" || strings.HasPrefix(said, "NOTE - no record is of a host called ") || said == "<no matches>")
	if err != nil || r.Code != 0 && !nothing {
		a.failed.Add(1)
		a.mu.Lock()
		a.lastFailed = fmt.Sprintf("exit %d: %v %s", r.Code, err, said)
		a.mu.Unlock()
		return 0, false
	}
	for line := range strings.Lines(string(r.Stdout)) {
		if !noted(line) {
			n++
		}
	}
	a.right.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	if n < least || host == a.fixedHost && n != a.fixed {
		a.wrong = append(a.wrong, fmt.Sprintf("%s: %d records of %s, at least %d were there before (exit %d, %s)", time.Now().Format(time.TimeOnly), n, host, max(least, a.fixed), r.Code, said))
	}
	a.last[host] = max(a.last[host], n)
	return n, true
}

// A collector keeps its events in a cluster, of one shard of three servers or of two shards of two. Servers are killed, frozen, also all of them, run out of disk and lose theirs, two of three
// keepers go, and the collector is killed, or ended and started while the cluster does not answer, while a stock sender and two of ours send and others ask. What was sent is stored once. An
// answer has all that an earlier one had, or says that it failed; and it does not fail for ever.
func TestClusterFaults(t *testing.T) {
	need.Root(t)
	need.Stock(t, "audisp-remote")
	for _, shape := range []cluster.Shape{{Replicas: 3}, {Shards: 2, Replicas: 2}} {
		shape.Keepers, shape.DiskMiB = 3, 256
		t.Run(fmt.Sprintf("%d x %d", max(1, shape.Shards), shape.Replicas), func(t *testing.T) { clusterFaults(t, shape) })
	}
}

func clusterFaults(t *testing.T, shape cluster.Shape) {
	cl := cluster.Start(t, shape)
	pki := pkiOf(t, "app1")
	grpc := freePort(t)
	o := harness.CollectorOptions{Store: t.TempDir() + "/store", Cluster: storeOf(t, cl), Port: freePort(t),
		Args: append(tlsArgs(pki, "collector"), "--grpc", fmt.Sprintf("127.0.0.1:%d", grpc), "--tcp-max-per-addr", "9")}
	c := startCollector(t, o)

	before := realLog(t, harness.RecordedRaw(), harness.Make{Seed: 1, Records: 3000, Nodes: []string{"before"}})
	p, err := harness.StartForwarder(binaries(t), t.TempDir(), c.Addr(), "stdin", feed(before))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(2 * time.Minute); err != nil {
		t.Fatal(err)
	}
	sameRecords(t, before, foundAll(t, c, len(before), "-n", "before"))

	stop := make(chan struct{})
	var writing, asking sync.WaitGroup
	var writers []*writer
	for i, host := range []string{"web1", "db1", "app1"} {
		in, out := io.Pipe()
		w := &writer{host: host, pipe: out, lines: realLog(t, harness.RecordedRaw(), harness.Make{Seed: uint64(i + 2), Records: 60_000, Nodes: []string{host}})}
		dir := t.TempDir()
		switch host {
		case "web1":
			w.proc, err = harness.StartAudispRemote(dir, c.Port, in, map[string]string{"network_failure_action": "warn_once", "max_tries_per_record": "100000", "max_time_per_record": "600"})
		case "db1":
			w.proc, err = harness.StartForwarder(binaries(t), dir, c.Addr(), "stdin", in, "--drain-timeout", "5m")
		case "app1":
			w.proc, err = harness.StartForwarder(binaries(t), dir, fmt.Sprintf("localhost:%d", grpc), "stdin", in, append(tlsArgs(pki, host), "--transport", "grpc", "--drain-timeout", "5m")...)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { out.Close(); w.proc.Kill() })
		writers = append(writers, w)
		writing.Add(1)
		go func() { defer writing.Done(); w.write(stop) }()
	}
	a := &asker{bins: binaries(t), socket: filepath.Join(o.Store, "collector.sock"), last: map[string]int{}, fixedHost: "before", fixed: len(before)}
	done := make(chan struct{})
	asking.Add(1)
	go func() {
		defer asking.Done()
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				a.ask([]string{"before", "web1", "before", "db1", "before", "app1"}[i%6])
			}
		}
	}()

	// well waits until new answers are right again, with what was written meanwhile.
	well := func(what string) {
		t.Helper()
		want := map[string]int{}
		a.mu.Lock()
		for _, w := range writers {
			want[w.host] = a.last[w.host] + 1
		}
		a.mu.Unlock()
		right := a.right.Load()
		for _, w := range writers {
			if !harness.Poll(4*time.Minute, func() bool { n, ok := a.ask(w.host); return ok && n >= want[w.host] }) {
				a.mu.Lock()
				t.Fatalf("after %s nothing new of %s is found; what failed last: %s", what, w.host, a.lastFailed)
			}
		}
		a.mu.Lock()
		t.Logf("%s: %d answers since, %d have failed in all, the last: %.200s; lines read by senders: %d %d %d", what, a.right.Load()-right, a.failed.Load(), a.lastFailed, writers[0].sent.Load(), writers[1].sent.Load(), writers[2].sent.Load())
		a.mu.Unlock()
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	well("nothing")
	for i, n := range cl.Nodes {
		n.Kill()
		time.Sleep(5 * time.Second)
		must(n.Start())
		well(fmt.Sprintf("the kill of server %d", i+1))
	}
	must(cl.Nodes[0].Freeze())
	time.Sleep(20 * time.Second)
	must(cl.Nodes[0].Thaw())
	well("a frozen server")
	cl.Keepers[0].Kill()
	cl.Keepers[1].Kill()
	time.Sleep(20 * time.Second)
	must(atOnceKeepers(cl.Keepers[:2]))
	well("the loss of two keepers")
	must(cl.Nodes[0].FillDisk()) // the one that is asked first
	time.Sleep(10 * time.Second)
	well("a full disk, still full")
	must(cl.Nodes[0].FreeDisk())
	well("a full disk")
	lost := cl.Nodes[len(cl.Nodes)-1]
	lost.Kill()
	must(lost.Wipe())
	must(lost.CopyTables(cl.Shard(lost.Shard)[0]))
	must(lost.Start())
	well("a lost disk")
	for _, n := range cl.Nodes {
		must(n.Freeze())
	}
	taken := writers[0].sent.Load()
	if !harness.Poll(4*time.Minute, func() bool { return writers[0].sent.Load() > taken+500 }) {
		t.Error("a sender waits for a cluster that hangs")
	}
	must(c.Signal(syscall.SIGTERM))
	if err := c.Wait(4 * time.Minute); err != nil {
		t.Errorf("the collector's end while the cluster hangs: %v", err)
	}
	c = startCollector(t, o)
	taken = writers[0].sent.Load()
	if !harness.Poll(4*time.Minute, func() bool { return writers[0].sent.Load() > taken+500 }) {
		t.Error("a sender waits for a collector that was started while the cluster hangs")
	}
	for _, n := range cl.Nodes {
		must(n.Thaw())
	}
	well("the end and start of the collector while all servers were frozen")
	cl.Nodes[0].Kill()
	cl.Nodes[1].Kill() // what is left is no quorum, or no first shard
	time.Sleep(5 * time.Second)
	c.Kill()
	c = startCollector(t, o)
	must(cl.Nodes[0].Start())
	must(cl.Nodes[1].Start())
	well("the kill of two servers and the collector")

	close(stop)
	writing.Wait()
	for _, w := range writers {
		if err := w.proc.Wait(6 * time.Minute); err != nil {
			t.Errorf("%s: %v", w.host, err)
		}
	}
	for _, w := range writers {
		sent := w.lines[:w.sent.Load()]
		sameRecords(t, sent, foundAll(t, c, len(sent), "-n", w.host))
	}
	close(done)
	asking.Wait()
	for _, wrong := range a.wrong {
		t.Error("an answer was wrong: " + wrong)
	}
	t.Logf("%d answers were right, %d failed", a.right.Load(), a.failed.Load())
}

// atOnceKeepers starts keepers that need one another to answer.
func atOnceKeepers(all []*cluster.Keeper) error {
	errs := make(chan error, len(all))
	for _, k := range all {
		go func() { errs <- k.Start() }()
	}
	for range all {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}
