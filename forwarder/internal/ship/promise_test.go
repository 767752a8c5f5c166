package ship

import (
	"math/rand/v2"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestPromises: what a server has acknowledged and holds no longer is told once, whatever
// came in between, and never of another store, another stream or another server.
func TestPromises(t *testing.T) {
	need.Seed(t)
	id := [16]byte{1}
	for range 300 {
		var p promises
		said := map[uint64]bool{}
		next := uint64(rand.IntN(10) + 1)
		for range rand.IntN(20) {
			if rand.IntN(3) == 0 {
				next += uint64(rand.IntN(50)) // another server's
			}
			to := next + uint64(rand.IntN(30))
			from := next - min(next-1, uint64(rand.IntN(5)))*uint64(rand.IntN(2)) // said again
			for i := from; i < to; i++ {
				said[i] = true
			}
			p.add("a:1", "store", id, from, to)
			next = to
		}
		held := uint64(rand.IntN(int(next) + 5)) //nolint:gosec // small
		for _, other := range []struct {
			server, store string
			id            [16]byte
		}{{"b:1", "store", id}, {"a:1", "other", id}, {"a:1", "store", [16]byte{2}}} {
			if gone := p.broken(other.server, other.store, other.id, 0); len(gone) > 0 {
				t.Fatalf("%v was never promised: %v", other, gone)
			}
		}
		gone := p.broken("a:1", "store", id, held)
		n := uint64(0)
		for i := range said {
			if i >= held {
				n++
			}
		}
		if got := count(gone, 0); got != n {
			t.Fatalf("%d of %d are gone from %d on: %v says %d", n, len(said), held, gone, got)
		}
		if again := p.broken("a:1", "store", id, held); len(again) > 0 {
			t.Fatalf("told twice: %v", again)
		}
	}
}

// A promise of many pieces stays bounded.
func TestPromiseIsBounded(t *testing.T) {
	var p promises
	for i := range uint64(10 * maxPieces) {
		p.add("a:1", "store", [16]byte{1}, 10*i, 10*i+5)
	}
	if n := len(p.by["a:1"].pieces); n != maxPieces {
		t.Errorf("%d pieces", n)
	}
	if n := count(p.broken("a:1", "store", [16]byte{1}, 10*(10*maxPieces-10)), 0); n != 50 {
		t.Errorf("%d of the last ten pieces are gone, want 50", n)
	}
}
