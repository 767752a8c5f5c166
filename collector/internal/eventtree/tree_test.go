package eventtree

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/event"
)

func some(n int) *Tree {
	t := &Tree{}
	var h Hasher
	for i := range n {
		t.Add(h.Event(&Event{Host: "web1", Receipts: []int64{int64(i)}, Text: fmt.Appendf(nil, "event %d\n\n", i)}))
	}
	return t
}

// Any events of a tree are proved by what Prove returns, and by nothing else: not with a hash more, less
// or altered, nor for another ordinal, another number of events or another event.
func TestProve(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for n := 1; n < 70; n++ {
		tree := some(n)
		for range 20 {
			var ordinals []int64
			var known []Known
			for i := range n {
				if r.IntN(n) < 3 {
					ordinals = append(ordinals, int64(i))
					known = append(known, Known{int64(i), tree.Event(int64(i))})
				}
			}
			proof, err := tree.Prove(ordinals)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := Root(int64(n), known, proof); err != nil || got != tree.Root() {
				t.Fatalf("%d events, %v: %x, %v", n, ordinals, got, err)
			}
			fails := func(what string, n int64, known []Known, proof []Hash) {
				t.Helper()
				if got, err := Root(n, known, proof); err == nil && got == tree.Root() {
					t.Fatalf("%d events, %v, %s: proved", n, ordinals, what)
				}
			}
			fails("a hash more", int64(n), known, append(proof[:len(proof):len(proof)], Hash{}))
			if len(proof) > 0 {
				fails("a hash less", int64(n), known, proof[1:])
				bad := append([]Hash(nil), proof...)
				bad[r.IntN(len(bad))][0] ^= 1
				fails("a hash altered", int64(n), known, bad)
			}
			if len(known) > 0 {
				fails("an event less", int64(n), known[1:], proof)
				bad := append([]Known(nil), known...)
				bad[r.IntN(len(bad))].Hash[31] ^= 1
				fails("an event altered", int64(n), bad, proof)
			}
			if len(known) > 1 {
				bad := append([]Known(nil), known...)
				bad[0].Hash, bad[1].Hash = bad[1].Hash, bad[0].Hash
				fails("two events swapped", int64(n), bad, proof)
			}
		}
	}
}

func TestRootRefuses(t *testing.T) {
	t.Parallel()
	tree := some(5)
	one := func(o int64) []Known { return []Known{{Ordinal: o}} }
	for what, err := range map[string]error{
		"no events":      second(Root(0, nil, nil)),
		"too many":       second(Root(MaxEvents+1, nil, nil)),
		"negative":       second(Root(5, one(-1), nil)),
		"beyond the end": second(Root(5, one(5), nil)),
		"twice":          second(Root(5, []Known{{Ordinal: 2}, {Ordinal: 2}}, nil)),
		"no proof":       second(Root(5, one(2), nil)),
		"prove beyond":   second(tree.Prove([]int64{5})),
	} {
		if !errors.Is(err, ErrProof) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// The numbers of FORMAT.md. They are never changed: proofs of earlier versions count for ever.
func TestExample(t *testing.T) {
	e := Event{Host: "web1", From: &event.Sender{Host: "web1", Addr: netip.MustParseAddr("192.0.2.7"), Transport: event.TransportGRPC},
		Receipts: []int64{1795341600000, 1795341600001}, Text: []byte("type=A msg=audit(1.000:1):\ntype=B msg=audit(1.000:1):\n\n")}
	const head = "01000304c0000207" + "0000000477656231" + "0000000477656231" + "00000002" + "000001a202b2c500" + "000001a202b2c501"
	if got := hex.EncodeToString(e.AppendHead(nil)); got != head {
		t.Errorf("head %s, want %s", got, head)
	}
	var h Hasher
	hash := h.Event(&e)
	tree := some(4)
	tree.Add(hash)
	if got := fmt.Sprintf("%x %x", hash, tree.Root()); got != exampleHashes {
		t.Errorf("got %s", got)
	}
	if n := testing.AllocsPerRun(100, func() { hash = h.Event(&e) }); n > 0 {
		t.Errorf("%v allocations an event", n)
	}
}

// Computed by a program of its own, not by this package.
const exampleHashes = "a32803d4f5ed87fbd93e09906a5d13faed2e7426b11fd94d2c055ba16b7f1621 " +
	"d5fd631d15ab6016695fac03e61a6f51a6e8917680bf12ba52e10540f9c81af6"
