package integration

import (
	"testing"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// TestExactlyOnceUnderChaos is the soak's small sister: three forwarders and two collectors, each in a
// network namespace, with cables that are cut and swallow packets, kills at both ends, and
// certificates and CAs that change meanwhile. Each record is stored once at a collector that
// has it, none is missing, and each host's are in order.
func TestExactlyOnceUnderChaos(t *testing.T) {
	t.Parallel()
	bins := binaries(t)
	need.Root(t)
	for _, tool := range []string{"ip", "nft", "nsenter", "unshare"} {
		need.Tool(t, tool)
	}
	if n, err := harness.NewNetns("a try"); err != nil {
		need.Missing(t, err.Error())
	} else {
		n.Close()
	}
	c := &harness.Chaos{Hosts: 3, Records: 36_000, Rate: 1_500, Seed: need.Seed(t), Dir: t.TempDir(), Logf: t.Logf}
	res, err := c.Run(bins)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(res)
	if res.Deeds["collector killed"] == 0 || res.Deeds["forwarder killed"] == 0 || res.Asked == 0 {
		t.Error("too little went wrong: the test shows nothing")
	}
}
