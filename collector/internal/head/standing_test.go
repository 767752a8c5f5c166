package head

import "testing"

// While the cluster takes nothing what is stored of hosts is put together, and counts when the last batch of it does.
func TestStandingsAway(t *testing.T) {
	a, b := &host{}, &host{}
	a.Name, a.Records, b.Name, b.Records = "a", 1000, "b", 1000
	h := &Head{hosts: map[string]*host{"a": a, "b": b}}
	for batch := uint64(1); batch <= 1000; batch++ {
		list := []reach{{a, batch}}
		if batch%2 == 0 {
			list = append(list, reach{b, batch / 2})
		}
		h.reach(batch, list)
	}
	kept := 0
	for _, r := range h.reached {
		kept += len(r.list)
	}
	if len(h.reached) > reachedApart || kept > 2*reachedApart {
		t.Errorf("%d batches with %d reaches are kept", len(h.reached), kept)
	}
	h.stats.StoredID = 1000
	for _, c := range []struct{ upTo, a, b uint64 }{{10, 10, 5}, {999, 63, 31}, {1000, 1000, 500}} {
		list, batch := h.Standings(c.upTo)
		if batch != c.upTo || len(list) != 2 {
			t.Fatalf("up to %d: %v, batch %d", c.upTo, list, batch)
		}
		for _, s := range list {
			if want := map[string]uint64{"a": c.a, "b": c.b}[s.Host]; s.Stored != want {
				t.Errorf("up to %d, %d of %s are stored, not %d", c.upTo, s.Stored, s.Host, want)
			}
		}
	}
}
