package shaking

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// The oldest makes room: of the address that has too many, else of all.
func TestOldestMakesRoom(t *testing.T) {
	b := New(4, 2)
	var ended []string
	places := map[string]*Place{}
	free := 100
	enter := func(name, addr string) {
		places[name] = b.Enter(netip.MustParseAddr(addr), free, func() { ended = append(ended, name) })
	}
	want := func(names ...string) {
		t.Helper()
		if !slices.Equal(ended, names) {
			t.Errorf("%q gave way, want %q", ended, names)
		}
	}
	enter("a", "192.0.2.1")
	enter("b", "192.0.2.2")
	enter("c", "::ffff:192.0.2.2") // the same address
	want()
	enter("d", "192.0.2.2")
	want("b")
	if places["b"].Leave() || !places["c"].Leave() || places["c"].Leave() {
		t.Error("who has a place, and who has not")
	}
	for i := range 3 {
		enter(fmt.Sprint(i), fmt.Sprintf("192.0.2.1%d", i))
	}
	want("b", "a")
	free = 2 // connections are left
	enter("e", "192.0.2.20")
	want("b", "a", "d")
	free = 0
	enter("f", "192.0.2.21")
	want("b", "a", "d", "0")
	if n := b.Len(); n != 4 {
		t.Errorf("%d have a place", n)
	}
}
