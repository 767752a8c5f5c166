package head

import (
	"context"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Names that are addresses and were invented take no places of senders, not after a
// restart either, and give back their own when they are forgotten.
func TestInventedAddresses(t *testing.T) {
	t.Parallel()
	const noNode = "type=USER_LOGIN msg=audit(1795334400.000:1): pid=1"
	dir := t.TempDir()
	few := func(_ *journal.Options, o *Options) { o.MaxHosts = 2 }
	r := mustRig(t, dir, few)
	r.put(t, plain(1, line("10.9.9.1", 1, 1, "USER_LOGIN", "x"), line("10.9.9.2", 1, 1, "USER_LOGIN", "x")))
	r.settle(t)
	r.close()
	r = mustRig(t, dir, few)
	r.put(t, plain(3, noNode), plain(4, noNode))
	r.settle(t)
	hostNamed(t, r.h, "10.0.0.3")
	hostNamed(t, r.h, "10.0.0.4")
	for _, names := range [][]string{{"10.9.9.1", "10.9.9.2"}, {"10.9.9.3", "10.9.9.4"}, {"a", "b"}} {
		r.put(t, plain(1, line(names[0], 1, 1, "USER_LOGIN", "x"), line(names[1], 1, 1, "USER_LOGIN", "x")))
		r.settle(t)
		hostNamed(t, r.h, names[0])
		hostNamed(t, r.h, names[1])
		if _, err := r.h.ChangeHosts(context.Background(), &store.Change{Forget: names}); err != nil {
			t.Fatal(err)
		}
	}
}
