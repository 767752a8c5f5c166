package upkeep

import (
	"context"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
)

// Hosts that were taken off the list are no damage, whether they send again or not.
func TestVerifyForgotten(t *testing.T) {
	t.Parallel()
	r := startRig(t, t.TempDir(), 64<<20)
	today := int(time.Since(storetest.Start) / (24 * time.Hour)) // as the collector's clock has it
	r.put(t, today, 200)
	if err := r.h.Flush(context.Background()); err != nil { // all of it has been read then
		t.Fatal(err)
	}
	hosts := r.h.Hosts()
	var names []string
	for _, h := range hosts {
		names = append(names, h.Name)
	}
	if len(names) < 2 {
		t.Fatalf("hosts: %q", names)
	}
	if _, err := r.h.ChangeHosts(context.Background(), &store.Change{Forget: names}); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"forgotten", "met again"} {
		if when == "met again" {
			r.put(t, today, 50)
		}
		if err := r.h.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		if rep := mustVerify(t, r.dir); len(rep.Damage) > 0 {
			t.Errorf("%s: %q", when, rep.Damage)
		}
	}
}
