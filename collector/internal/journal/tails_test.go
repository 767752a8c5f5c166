package journal

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// Whether a hash is a connection's last record is known at any time, however the hashes
// came and went: compared with a look at all of them.
func TestTailsHave(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	x := newSenders(10).get(identity{addr: addr(1).Addr()})
	x.all.began = time.Unix(0, 0)
	ts := &x.tails
	now := time.Unix(1_800_000_000, 0)
	most := 0
	for range 20_000 {
		conn, hash := rng.Uint64N(40), rng.Uint64N(60)
		switch rng.IntN(20) {
		case 0:
			ts.forget(x, conn)
		case 1:
			ts.prune(x, now)
		case 2:
			now = now.Add(time.Duration(rng.Int64N(int64(tailAge))))
		case 3:
			if rng.IntN(50) == 0 {
				ts.forgetConnections(x)
			}
		case 4, 5:
			is := false
			for l := ts.lru.next; l != &ts.lru; l = l.next {
				is = is || l.hash == hash
			}
			if got := ts.has(hash); got != is {
				t.Fatalf("has(%d) is %v, want %v", hash, got, is)
			}
		case 6:
			if rng.IntN(20) == 0 {
				ts.changes(x, nil)
			}
		default:
			ts.set(x, conn, hash, now)
		}
		n := 0
		for l := ts.lru.next; l != &ts.lru; l = l.next {
			n++
		}
		if n != ts.n {
			t.Fatalf("%d tails, counted %d", n, ts.n)
		}
		most = max(most, len(ts.hashes))
	}
	if most < 10 {
		t.Errorf("at most %d hashes: the test shows little", most)
	}
}
