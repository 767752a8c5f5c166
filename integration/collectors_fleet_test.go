//go:build cluster

package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
	"github.com/auditfleet/auditfleet/internal/need"
)

// fleetTime is how long the fleet sends: AUDITFLEET_FLEET_MINUTES says another time.
func fleetTime(t *testing.T) time.Duration {
	n, err := strconv.Atoi(os.Getenv("AUDITFLEET_FLEET_MINUTES"))
	if os.Getenv("AUDITFLEET_FLEET_MINUTES") != "" && err != nil {
		t.Fatal(err)
	}
	return max(1, time.Duration(n)) * time.Minute
}

// behindOne is HAProxy's file with three collectors behind one port.
func behindOne(front int, all map[string]*harness.Collector) string {
	var b strings.Builder
	fmt.Fprintf(&b, "defaults\n mode tcp\n timeout connect 2s\n timeout client 1h\n timeout server 1h\n option redispatch\n option httpchk GET /readyz\n default-server send-proxy-v2 check inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions\n")
	fmt.Fprintf(&b, "listen audit\n maxconn 3000\n bind 127.0.0.1:%d\n balance leastconn\n", front)
	for name, c := range all {
		_, web, _ := strings.Cut(c.HTTP, ":")
		fmt.Fprintf(&b, " server %s 127.0.0.1:%d check port %s\n", name, c.Port, web)
	}
	return b.String()
}

// A thousand hosts, of which a fifth send as stock ones do, send through HAProxy to three collectors on one cluster, while collectors and servers of the cluster are killed at
// random. What was acknowledged is found at each of them once.
func TestClusterFleet(t *testing.T) {
	need.Root(t)
	need.Tool(t, "haproxy")
	seed := need.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 18))
	cl := cluster.Start(t, cluster.Shape{Replicas: 3, Keepers: 3})
	f := collectorsOn(t, cl)
	names := []string{"east", "west", "south"}
	for _, name := range names {
		f.start(name, "--proxy-protocol-from", "127.0.0.1")
	}
	front := freePort(t)
	startHAProxy(t, "fleet", "global\n maxconn 3000\n log stdout format raw local0\n"+behindOne(front, f.all))

	long := fleetTime(t)
	fl := &harness.Fleet{Addr: fmt.Sprintf("127.0.0.1:%d", front), Senders: 1000, Stock: 200, Window: 64, Gap: 4 * time.Second}
	fl.Start()
	if !harness.Poll(time.Minute, func() bool { return fl.Acked() > 0 }) {
		t.Fatal("nothing comes through HAProxy")
	}
	kills := map[string]int{}
	for begin := time.Now(); time.Since(begin) < long; {
		time.Sleep(time.Duration(4+rng.IntN(8)) * time.Second)
		if rng.IntN(3) == 0 {
			n := cl.Nodes[rng.IntN(len(cl.Nodes))]
			n.Kill()
			time.Sleep(time.Duration(1+rng.IntN(5)) * time.Second)
			if err := n.Start(); err != nil {
				t.Fatal(err)
			}
			kills["server"]++
			continue
		}
		name := names[rng.IntN(len(names))]
		f.all[name].Kill()
		time.Sleep(time.Duration(rng.IntN(6)) * time.Second)
		f.start(name)
		kills[name]++
		t.Logf("%v: %v kills; %d acknowledged, %d sent again", time.Since(begin).Round(time.Second), kills, fl.Acked(), fl.Again())
	}
	from := time.Now()
	if err := fl.Drain(4*time.Minute + long/5); err != nil {
		t.Fatal(err)
	}
	t.Logf("%v after the last record: %d acknowledged, %d sent again, over %d connections; kills %v", time.Since(from).Round(time.Millisecond), fl.Acked(), fl.Again(), fl.Connections(), kills)
	for _, name := range names {
		if err := fl.Check(searched(t, f.all[name])); err != nil {
			t.Errorf("at %s: %v", name, err)
		}
	}
	// And once all of it is stored.
	for _, name := range names {
		if err := f.all[name].Terminate(2 * time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	f.start("east")
	if err := fl.Check(searched(t, f.all["east"])); err != nil {
		t.Errorf("all stored: %v", err)
	}
	r, err := f.all["east"].Command(time.Minute, "hosts", "--format", "json", "fleet0*")
	var rows []struct {
		Records    uint64 `json:"records"`
		Collectors []any  `json:"collectors"`
	}
	if err == nil {
		err = json.Unmarshal(r.Stdout, &rows)
	}
	several, records := 0, uint64(0)
	for _, row := range rows {
		records += row.Records
		if len(row.Collectors) > 1 {
			several++
		}
	}
	t.Logf("%d hosts, %d with several collectors, %d records received in all (%d acknowledged)", len(rows), several, records, fl.Acked())
	if err != nil || len(rows) != fl.Senders || several == 0 {
		t.Errorf("hosts: %v, %d of them, %d moved", err, len(rows), several)
	}
}

// searched is all that a collector finds, as a file to read, once its answer is whole.
func searched(t *testing.T, c *harness.Collector) *os.File {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), "found-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	if !harness.Poll(4*time.Minute, func() bool {
		if err := out.Truncate(0); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		p, serr := harness.Start(harness.Spec{Name: "collector search", Args: []string{binaries(t).Collector, "search", "--store", c.Store, "--no-coverage-note", "--format", "raw"}, Out: out})
		if serr != nil {
			t.Fatal(serr)
		}
		err = p.Wait(10 * time.Minute)
		if err != nil {
			err = fmt.Errorf("%w: %s", err, p.Output())
		}
		return err == nil
	}) {
		t.Fatal(err)
	}
	if _, err := out.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	return out
}
