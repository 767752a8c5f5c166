package ship

import (
	"math/rand"
	"testing"
)

// For the tests in package ship_test, which have a transport.
const (
	FirstPause = firstPause
	MaxOdd     = maxOdd
)

// What find finds by halving is what a look at each would find, also where ids jump.
func TestFindInWindow(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	for range 200 {
		w := newWindow(1 + rng.Intn(300))
		index, base := uint64(rng.Intn(1000)), rng.Uint32()
		var seqs []uint32
		for range rng.Intn(2 * len(w.ring)) {
			index += 1 + uint64(rng.Intn(20)/19*rng.Intn(50))
			base += uint32(rng.Intn(50) / 49 * (1<<24 + rng.Intn(1<<20)))
			seq := 0x80000000 | (base+uint32(index))&0x7fffffff
			s, v := w.take(index, seq)
			if v == noRoom {
				front := w.head0().index
				w.head0().state = done
				w.pop(front)
				s, _ = w.take(index, seq)
			}
			w.send(s)
			seqs = append(seqs, seq)
		}
		for _, seq := range append(seqs, rng.Uint32(), 0, 1<<31) {
			var want *slot
			for i := range w.n {
				if s := w.at(i); s.seq == seq {
					want = s
				}
			}
			if got := w.find(seq); got != want {
				t.Fatalf("id %#x: %v, want %v", seq, got, want)
			}
		}
	}
}

// nowhere is a Transport that is never asked for a connection.
type nowhere struct{ Transport }

func (nowhere) MaxWindow() int { return MaxWindow }

func TestBackoff(t *testing.T) {
	s, err := New(Config{Servers: []string{"a"}, Transport: nowhere{}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 100 {
		d := s.backoff(round)
		least := min(DefaultBackoffMax, DefaultBackoffMin<<min(round, 20)) / 2
		if d < least || d > 2*least {
			t.Errorf("round %d: %v, want %v to %v", round, d, least, 2*least)
		}
	}
}
