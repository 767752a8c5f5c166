package journal

import (
	"testing"
)

// What a sender sent to one collector is a resend at another that has adopted what that remembers: by offset, by number and bytes, and the last record of a
// stock sender's connection. Nothing else is taken for one, and nothing of it is told to the store.
func TestAdopt(t *testing.T) {
	t.Parallel()
	id := StreamID{7}
	a, b := newSenders(100), newSenders(100)
	if _, _, err := a.offsets.filter(spanBatch("x", id, 0, 0, 5)); err != nil {
		t.Fatal(err)
	}
	kept(a, 1, own(5, "a"), own(6, "b"), own(7, "c"))
	kept(a, 2, stockRec(1, "first"), stockRec(2, "last"))
	changed := a.changes()
	for range 2 { // it comes again and again
		if err := b.adopt("east", changed); err != nil {
			t.Fatal(err)
		}
	}
	if list := b.changes(); len(list) != 0 {
		t.Errorf("%d changes are for the store", len(list))
	}
	batch := spanBatch("x", id, 0, 3, 7)
	if _, _, err := b.offsets.filter(batch); err != nil || texts(batch) != "5 6" {
		t.Errorf("offsets: %v, kept %q", err, texts(batch))
	}
	if got := kept(b, 10, own(6, "b"), own(7, "c"), own(8, "d")); got != "d " {
		t.Errorf("numbers: kept %q", got)
	}
	if got := kept(b, 11, own(6, "other"), own(7, "c")); got != "other " {
		t.Errorf("numbers of another stream: kept %q", got)
	}
	if got := kept(b, 12, stockRec(1, "last"), stockRec(2, "next")); got != "next " {
		t.Errorf("a stock sender: kept %q", got)
	}
	if got := kept(b, 13, stockRec(1, "first")); got != "first " {
		t.Errorf("a stock sender's record before the last: kept %q", got)
	}
	// It goes on at both: what was moved here stays when the other says more of an older time.
	kept(a, 3, own(8, "x"))
	if err := b.adopt("east", a.changes()); err != nil {
		t.Fatal(err)
	}
	if got := kept(b, 10, own(8, "d"), own(9, "e")); got != "e " {
		t.Errorf("behind what the other said later: kept %q", got)
	}
	if err := b.adopt("east", []KV{{Key: []byte("x"), Value: []byte("y")}}); err == nil {
		t.Error("nonsense is adopted")
	}
}
