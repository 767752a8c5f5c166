package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// spanBatch has a record for each offset from up to to, without those in skip.
func spanBatch(name string, id StreamID, floor, from, to uint64, skip ...uint64) *Batch {
	b := &Batch{Sender: Sender{Verified: name, Addr: addr(1), Transport: event.TransportGRPC}, Managed: true, Received: time.Unix(1, 0),
		Span: Span{Stream: id, From: from, To: to, Floor: floor}}
next:
	for at := from; at < to; at++ {
		for _, s := range skip {
			if s == at {
				continue next
			}
		}
		b.Records = append(b.Records, Record{Seq: uint32(at), Raw: fmt.Appendf(nil, "node=%s %x/%d", name, id[:2], at)})
	}
	return b
}

func texts(b *Batch) string {
	var out []string
	for i := range b.Records {
		_, text, _ := strings.Cut(string(b.Records[i].Raw), "/")
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func TestOffsets(t *testing.T) {
	t.Parallel()
	const high = 1<<32 - 2 // where the lower halves begin again
	a, b := StreamID{1}, StreamID{2}
	for _, c := range []struct {
		name  string
		send  []*Batch
		kept  string // of the last
		gap   bool
		held  uint64
		drops uint64
	}{
		{name: "in order", send: []*Batch{spanBatch("x", a, 0, 0, 3), spanBatch("x", a, 0, 3, 5)}, kept: "3 4", held: 5},
		{name: "twice", send: []*Batch{spanBatch("x", a, 0, 0, 3), spanBatch("x", a, 0, 0, 3)}, held: 3, drops: 3},
		{name: "half known", send: []*Batch{spanBatch("x", a, 0, 0, 3), spanBatch("x", a, 0, 1, 5)}, kept: "3 4", held: 5, drops: 2},
		{name: "beyond", send: []*Batch{spanBatch("x", a, 0, 0, 3), spanBatch("x", a, 0, 4, 5)}, gap: true, kept: "4", held: 3},
		{name: "beyond what a connection begins with", send: []*Batch{spanBatch("x", a, 100, 101, 103)}, gap: true, kept: "101 102", held: 0},
		{name: "the rest went elsewhere", send: []*Batch{spanBatch("x", a, 0, 0, 3), spanBatch("x", a, 7, 7, 9)}, kept: "7 8", held: 9},
		{name: "a connection that begins below goes on", send: []*Batch{spanBatch("x", a, 2, 2, 5), spanBatch("x", a, 2, 5, 6)}, kept: "5", held: 6},
		{name: "offsets without records", send: []*Batch{spanBatch("x", a, 0, 0, 5, 0, 1, 4), spanBatch("x", a, 0, 5, 6)}, kept: "5", held: 6},
		{name: "and again", send: []*Batch{spanBatch("x", a, 0, 0, 5, 0, 1, 4), spanBatch("x", a, 0, 0, 7, 0, 1, 4)}, kept: "5 6", held: 7, drops: 2},
		{name: "another stream", send: []*Batch{spanBatch("x", b, 0, 0, 3), spanBatch("x", a, 0, 0, 2)}, kept: "0 1", held: 2},
		{name: "another name", send: []*Batch{spanBatch("y", a, 0, 0, 3), spanBatch("x", a, 0, 0, 2)}, kept: "0 1", held: 2},
		{name: "over the end of the lower half", send: []*Batch{spanBatch("x", a, high, high, high+3), spanBatch("x", a, high, high+1, high+5)}, kept: fmt.Sprint(high+3, " ", high+4), held: high + 5, drops: 2},
	} {
		o := newOffsets()
		var err error
		for _, s := range c.send {
			_, _, err = o.filter(s)
		}
		last := c.send[len(c.send)-1]
		if got := texts(last); got != c.kept || errors.Is(err, ErrGap) != c.gap || o.held("x", a) != c.held {
			t.Errorf("%s: kept %q, want %q; %v; held %d, want %d", c.name, got, c.kept, err, o.held("x", a), c.held)
		}
		drops := uint64(0)
		for _, d := range last.Dropped {
			drops += d.Count
		}
		if drops != c.drops {
			t.Errorf("%s: %d dropped, want %d", c.name, drops, c.drops)
		}
	}
}

// What is remembered is bounded, of a name and of all; the longest unused goes first,
// also from the store.
func TestOffsetsAreBounded(t *testing.T) {
	t.Parallel()
	s := newSenders(10)
	kvs := map[string][]byte{}
	keep := func() {
		for _, kv := range s.changes() {
			if kv.Value == nil {
				delete(kvs, string(kv.Key))
			} else {
				kvs[string(kv.Key)] = kv.Value
			}
		}
	}
	for i := range 3 * maxStreams {
		_, _, _ = s.offsets.filter(spanBatch("x", StreamID{1, byte(i)}, 0, 0, uint64(i)+1))
		_, _, _ = s.offsets.filter(spanBatch("x", StreamID{9}, uint64(i), uint64(i), uint64(i)+1)) // used all the time
		if i%7 == 0 {
			keep()
		}
	}
	keep()
	if len(kvs) != maxStreams || s.offsets.places != maxStreams || s.offsets.held("x", StreamID{9}) != 3*maxStreams || s.offsets.held("x", StreamID{1, 0}) != 0 {
		t.Errorf("the store has %d streams, memory %d; %d of the one in use", len(kvs), s.offsets.places, s.offsets.held("x", StreamID{9}))
	}
	s.offsets.most = 40
	for i := range 100 {
		_, _, _ = s.offsets.filter(spanBatch(fmt.Sprint("n", i), StreamID{1}, 0, 0, 1))
	}
	keep()
	if len(kvs) != 40 || s.offsets.places != 40 || s.offsets.held("n99", StreamID{1}) != 1 || s.offsets.forgotten == 0 {
		t.Errorf("the store has %d streams, memory %d, %d forgotten", len(kvs), s.offsets.places, s.offsets.forgotten)
	}
	var list []KV
	for k, v := range kvs {
		list = append(list, KV{[]byte(k), v})
	}
	again, err := loadSenders(list, 10)
	if err != nil || again.offsets.places != 40 || again.offsets.held("n99", StreamID{1}) != 1 || len(again.changes()) != 0 {
		t.Errorf("read again: %v, %d streams", err, again.offsets.places)
	}
	for _, kv := range []KV{{identity{addr: addr(1).Addr()}.key(kindOffset, make([]byte, 16)...), make([]byte, 9)}, {identity{name: "x"}.key(kindOffset, 1), list[0].Value},
		{list[0].Key, list[0].Value[1:]}, {list[0].Key, append([]byte{2}, list[0].Value[1:]...)}} {
		if _, err := loadSenders([]KV{kv}, 10); !errors.Is(err, ErrSenders) {
			t.Errorf("%x = %x: %v", kv.Key, kv.Value, err)
		}
	}
}

// offsetWorld is a collector's journal and store, and a sender with several batches in
// flight over two connections.
type offsetWorld struct {
	t    *testing.T
	rnd  *rand.Rand
	fs   *faultfs.FS
	j    *Journal
	id   StreamID
	acks uint64 // all below are acknowledged

	stored map[string]int // records of the store
	lsn    uint64         // the store's
	kvs    map[string][]byte
	recent []*Batch // taken or replayed, and not in the store
}

func (w *offsetWorld) open() {
	var mu sync.Mutex // the journal asks for the time in a goroutine of its own
	clock := rand.New(rand.NewPCG(w.rnd.Uint64(), 1))
	now := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(time.Duration(clock.IntN(1e6)) * time.Hour)
	}
	j, _, err := Open(Options{FS: w.fs, Dir: "/j", SegmentBytes: 4096, Now: now})
	if err != nil {
		w.t.Fatal(err)
	}
	var kvs []KV
	for k, v := range w.kvs {
		kvs = append(kvs, KV{[]byte(k), v})
	}
	w.recent = nil
	if err := j.Start(Resume{Place: Place{LSN: w.lsn}, Senders: kvs}, func(b *Batch) error { w.recent = append(w.recent, b); return nil }); err != nil {
		w.t.Fatal(err)
	}
	w.j = j
}

// cut is what the head does: what was taken goes to the store with the state, and the
// journal is trimmed. The state may get there, and the rest not.
func (w *offsetWorld) cut() {
	w.j.Poke()
	list, err := w.j.Take(context.Background(), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	w.recent = append(w.recent, list...)
	kvs := w.j.Senders()
	if err := w.j.Sync(); err != nil {
		return // not reached in this order: the head tries again, and here a restart follows
	}
	for _, kv := range kvs {
		w.kvs[string(kv.Key)] = kv.Value
	}
	if w.rnd.IntN(4) == 0 {
		w.restart()
		return
	}
	for _, b := range w.recent {
		for i := range b.Records {
			if b.First+uint64(i) > w.lsn {
				w.stored[string(b.Records[i].Raw)]++
			}
		}
	}
	if n := len(w.recent); n > 0 {
		w.lsn = max(w.lsn, w.recent[n-1].Last())
	}
	w.recent = nil
	_ = w.j.Trim(w.lsn, nil)
}

func (w *offsetWorld) restart() {
	w.fs.Kill()
	_ = w.j.Close() // its handles are gone
	w.fs.Heal()
	w.open()
}

// session is a connection: it sends from what the collector holds on, or from further
// back, some batches in flight at a time, until one is refused.
func (w *offsetWorld) session(until uint64) {
	floor := w.acks
	held, _ := w.j.Held("web1", w.id)
	at := max(floor, held)
	if back := w.rnd.Uint64N(20); w.rnd.IntN(2) == 0 && at >= floor+back {
		at -= back
	}
	type answer struct {
		to  uint64
		err error
	}
	answers := make(chan answer, 100)
	flying, refused := 0, false
	for at < until && !refused {
		to := min(until, at+1+w.rnd.Uint64N(12))
		b := spanBatch("web1", w.id, floor, at, to, at/13*13, to/13*13) // those never come
		if err := w.j.Submit(context.Background(), b, func(err error) { answers <- answer{to, err} }); err != nil {
			w.t.Fatal(err)
		}
		flying++
		for at = to; flying > w.rnd.IntN(8); flying-- {
			a := <-answers
			// An answer is about all that lies before, too: what was refused because a write
			// failed may be in the journal all the same, and be found there.
			if refused = refused || a.err != nil; a.err == nil {
				w.acks = max(w.acks, a.to)
			}
		}
	}
	for ; flying > 0; flying-- {
		if a := <-answers; a.err == nil {
			w.acks = max(w.acks, a.to)
		}
	}
}

// Whatever fails and is killed, each offset is stored once, and all that were
// acknowledged are.
func TestOffsetsOverFaults(t *testing.T) {
	t.Parallel()
	for round := range need.Rounds(60, 10) {
		seed := need.Seed(t) + uint64(round)
		w := &offsetWorld{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), fs: faultfs.New(int64(seed)), id: StreamID{7}, stored: map[string]int{}, kvs: map[string][]byte{}}
		w.open()
		for until := uint64(0); until < 600; until += w.rnd.Uint64N(60) {
			if w.rnd.IntN(3) == 0 {
				op := []faultfs.Op{faultfs.Write, faultfs.Sync, faultfs.Create, faultfs.Allocate}[w.rnd.IntN(4)]
				n := 1 + w.rnd.IntN(6)
				w.fs.FailRange(op, n, n+w.rnd.IntN(4), []error{syscall.EIO, syscall.ENOSPC}[w.rnd.IntN(2)])
			}
			w.session(until)
			w.fs.Heal()
			switch w.rnd.IntN(4) {
			case 0:
				w.cut()
			case 1:
				w.restart()
			}
		}
		w.session(600)
		for range 5 {
			w.session(600)
		}
		w.restart()
		for _, b := range w.recent {
			for i := range b.Records {
				if b.First+uint64(i) > w.lsn {
					w.stored[string(b.Records[i].Raw)]++
				}
			}
		}
		_ = w.j.Close()
		if w.acks != 600 {
			t.Fatalf("seed %d: %d of 600 are acknowledged", seed, w.acks)
		}
		for at := range uint64(600) {
			want := 1
			if at%13 == 0 {
				want = 0
			}
			if n := w.stored[fmt.Sprintf("node=web1 %x/%d", w.id[:2], at)]; n != want {
				t.Errorf("seed %d: offset %d is stored %d times, want %d", seed, at, n, want)
			}
		}
	}
}

// TestKnown: a journal is sure of a stream that it does not have until it has had to forget
// streams.
func TestKnown(t *testing.T) {
	t.Parallel()
	o := newOffsets()
	o.most = 3
	for i := range 4 {
		next, sure := o.known("y", StreamID{1})
		if next != 0 || sure != (i < 3) {
			t.Errorf("with %d streams: %d, %v", i, next, sure)
		}
		_, _, _ = o.filter(spanBatch("x", StreamID{2, byte(i)}, 0, 0, 5))
	}
	if next, sure := o.known("x", StreamID{2, 3}); next != 5 || !sure {
		t.Errorf("one that is there: %d, %v", next, sure)
	}
}

// TestReceiptsInOrder: a batch that an older connection has left in the queue counts as
// received no earlier than what a newer one brought before it. A clock that was put back
// moves receipts of one connection as it likes.
func TestReceiptsInOrder(t *testing.T) {
	t.Parallel()
	o := newOffsets()
	for _, c := range []struct {
		conn     uint64
		from, to uint64
		at, want int64
	}{
		{1, 0, 3, 100, 100},
		{2, 1, 5, 107, 107},
		{1, 3, 8, 106, 107}, // its last three
		{1, 8, 9, 108, 108},
		{2, 9, 10, 50, 50},
		{1, 10, 11, 40, 50},
		{3, 11, 12, 20, 20},
	} {
		b := spanBatch("x", StreamID{1}, 0, c.from, c.to)
		b.Conn, b.Received = c.conn, time.Unix(c.at, 0)
		if _, _, err := o.filter(b); err != nil || b.Received.Unix() != c.want {
			t.Errorf("%d to %d over connection %d, received at %d: counts as %d, want %d; %v", c.from, c.to, c.conn, c.at, b.Received.Unix(), c.want, err)
		}
	}
}
