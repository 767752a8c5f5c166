package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// TestFoundAtOnce: a record alone whose event may go on, an AVC, is found by the first search that
// begins after its sender has ended, which it does when all is acknowledged: the stock one
// and ours; also in the files after a kill, and after the start that follows.
func TestFoundAtOnce(t *testing.T) {
	t.Parallel()
	stockPeers(t)
	c := startCollector(t, harness.CollectorOptions{Args: []string{"--node", "hub"}})
	avc := func(serial int, comm string) *strings.Reader {
		return strings.NewReader(fmt.Sprintf("node=web1 type=AVC msg=audit(%d.101:%d): avc:  denied  { read } for  pid=7 comm=%q name=\"x\" scontext=a tcontext=b tclass=file permissive=0\n",
			time.Now().Unix(), serial, comm))
	}
	find := func(comm, why string) {
		t.Helper()
		got, err := c.Search(time.Minute, "-m", "AVC", "-c", comm, "-r")
		if err != nil || got.Code != 0 || strings.Count(string(got.Stdout), "\n") != 1 || !strings.Contains(string(got.Stdout), comm) {
			t.Errorf("%s, %s: %v, %+v: %s%s", comm, why, err, got.Code, got.Stdout, got.Stderr)
		}
	}
	stock, err := harness.StartAudispRemote(t.TempDir(), c.Port, avc(5001, "stock"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := stock.Wait(time.Minute); err != nil {
		t.Fatal(err)
	}
	find("stock", "running")
	ours, err := harness.StartForwarder(binaries(t), t.TempDir(), c.Addr(), "stdin", avc(5002, "ours"))
	if err != nil {
		t.Fatal(err)
	}
	if err := ours.Wait(time.Minute); err != nil {
		t.Fatal(err)
	}
	find("ours", "running")
	c.Kill()
	for _, comm := range []string{"stock", "ours"} {
		find(comm, "after a kill")
	}
	c = startCollector(t, harness.CollectorOptions{Store: c.Store, Args: []string{"--node", "hub"}})
	for _, comm := range []string{"stock", "ours"} {
		find(comm, "after a restart")
	}
}
