package journal

import (
	"fmt"
	"testing"
	"time"
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

// What is adopted takes no place from what this collector remembers itself, is the first to be forgotten, and that is no word for the store.
func TestAdoptGivesWay(t *testing.T) {
	t.Parallel()
	send := func(s *senders, name string, id StreamID) {
		if _, _, err := s.offsets.filter(spanBatch(name, id, 0, 0, 5)); err != nil {
			t.Fatal(err)
		}
	}
	stock := func(i int) *Batch {
		return &Batch{Conn: uint64(i) + 1, Sender: from(addr(i)), Managed: true, Received: time.Unix(1, 0), Records: []Record{stockRec(1, fmt.Sprint("of ", i))}}
	}
	a, b := newSenders(100), newSenders(3)
	b.offsets.most = 2 * maxStreams
	for i := range byte(maxStreams) {
		send(a, "x", StreamID{1, i})
		send(b, "x", StreamID{2, i})
	}
	for i := range byte(100) {
		send(a, fmt.Sprint("n", i), StreamID{1})
		a.filter(stock(100 + int(i)))
	}
	for i := range byte(3) {
		b.filter(stock(int(i)))
	}
	b.changes()
	changed := a.changes()
	for range 2 {
		if err := b.adopt("east", changed); err != nil {
			t.Fatal(err)
		}
	}
	o := b.offsets
	if o.places != maxStreams || o.adopted != o.most || o.forgotten != 0 || len(b.changes()) != 0 {
		t.Errorf("%d places, %d adopted, %d forgotten", o.places, o.adopted, o.forgotten)
	}
	for i := range byte(maxStreams) {
		if next, _ := o.known("x", StreamID{2, i}); next != 5 {
			t.Errorf("its own stream %d is forgotten", i)
		}
	}
	if _, sure := o.known("who", StreamID{1}); !sure {
		t.Error("what is adopted makes it unsure whether a stream was forgotten")
	}
	for i := range byte(3) {
		if b.all[identity{addr: addr(int(i)).Addr()}] == nil {
			t.Errorf("its own sender %d is forgotten", i)
		}
	}
	// One that comes here is its own from then on.
	var name string
	for n, x := range o.names {
		if x.list[0].adopted {
			name = n
		}
	}
	if _, _, err := o.filter(spanBatch(name, StreamID{1}, 5, 5, 6)); err != nil || o.find(name, StreamID{1}).adopted || o.places != maxStreams+1 {
		t.Errorf("%v, %d places", err, o.places)
	}
	for i := range 100 {
		send(b, fmt.Sprint("y", i), StreamID{3})
	}
	if o.places != o.most || o.adopted != o.most-1 {
		t.Errorf("%d places, %d adopted", o.places, o.adopted)
	}
	for i := range byte(maxStreams + 1) { // a full name has room for its own
		send(b, "z", StreamID{4, i})
		o.adopt("z", StreamID{5, i}, 7)
	}
	if o.held("z", StreamID{4, maxStreams}) != 5 || o.held("z", StreamID{4, 1}) != 5 {
		t.Error("an adopted stream has pushed out one of the name's own")
	}
}
