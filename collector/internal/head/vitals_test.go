package head

import (
	"fmt"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// BenchmarkVitals is what it costs to ask how each of 10,000 hosts stands.
func BenchmarkVitals(b *testing.B) {
	r := mustRig(b, b.TempDir(), func(*journal.Options, *Options) {})
	r.h.mu.Lock()
	for i := range 10_000 {
		r.h.newHost(store.Host{Name: fmt.Sprintf("host%05d", i), First: time.Now()})
	}
	r.h.mu.Unlock()
	n := 0
	for b.Loop() {
		r.h.EachVitals(func(*Vitals) { n++ })
	}
	if n == 0 {
		b.Error("none")
	}
}
