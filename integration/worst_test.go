package integration

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// worstServer is a collector, and the link to it.
type worstServer struct {
	link    *harness.Proxy
	restart func() // kills the collector, and starts it again
}

// worstDay grows a log that a forwarder follows. Meanwhile one thing after another happens to the
// forwarder, or to the server that pick names. It returns the forwarder that runs in the end.
func worstDay(t *testing.T, rng *rand.Rand, log string, lines []string, launch func() *harness.Proc, pick func() worstServer) *harness.Proc {
	t.Helper()
	p := launch()
	written := make(chan error, 1)
	go func() { written <- grow(log, lines) }()
	counts := map[string]int{}
	for {
		select {
		case err := <-written:
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%v", counts)
			return p
		case <-time.After(time.Duration(100+rng.IntN(400)) * time.Millisecond):
		}
		if p.Exited() {
			t.Fatalf("the forwarder ended by itself:\n%s", p.Output())
		}
		server := pick()
		what := []string{"forwarder killed", "forwarder ended", "collector killed", "link cut", "black hole"}[rng.IntN(5)]
		counts[what]++
		switch what {
		case "forwarder killed":
			p.Kill()
			p = launch()
		case "forwarder ended":
			if err := p.Terminate(time.Minute); err != nil {
				t.Fatal(err)
			}
			p = launch()
		case "collector killed":
			server.restart()
		case "link cut":
			server.link.Cut()
		case "black hole":
			server.link.BlackHole()
			time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
			server.link.Resume()
		}
	}
}
