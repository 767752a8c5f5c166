package journal

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/auditfleet/auditfleet/internal/need"
)

// natSender is one of many senders behind one address.
type natSender struct {
	device
	node string
	from uint32 // its numbering begins here
	open bool   // it has a connection
}

func (d *natSender) record(i int) Record {
	raw := fmt.Sprintf("node=%s type=USER msg=audit(%d.000:%d): of=%s", d.node, 1700000000+i, i, d.name)
	if d.node == "" {
		raw = raw[len("node= "):]
	}
	if d.stock {
		d.attempt++
		return stockRec(d.attempt, raw)
	}
	return own(d.from+uint32(i), raw)
}

// TestBehindNAT has 200 windowed and 200 stock senders behind one address through
// many kills of the collector and of connections: each record is stored once, with
// names of their own, with one name for all, and with none.
func TestBehindNAT(t *testing.T) {
	t.Parallel()
	const senders, window = 200, 64
	kills, seed := need.Rounds(10, 3), need.Seed(t)
	for _, names := range []string{"own", "one", "none"} {
		t.Run(names, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			var all []*natSender
			for i := range 2 * senders {
				d := &natSender{device: device{name: fmt.Sprint("s", i), stock: i >= senders}, from: rng.Uint32() & seqMask}
				switch names {
				case "own":
					d.node = d.name
				case "one":
					d.node = "localhost"
				}
				all = append(all, d)
			}
			s := newSenders(100)
			stored := map[string][]byte{}
			var since []*Batch
			count := map[string]int{}
			conn, again := uint64(0), 0
			now := time.Unix(1_700_000_000, 0)
			step := func(d *natSender, lost bool) {
				if !d.open {
					conn++
					d.conn, d.sent, d.open = conn, d.base, true
				}
				w := window
				if d.stock {
					w = 1
				}
				n := min(1+rng.IntN(20), d.base+w-d.sent)
				if n <= 0 {
					d.base = d.sent // the acknowledgements come
					return
				}
				b := &Batch{Conn: d.conn, Sender: from(addr(1)), Managed: true, Received: now}
				for i := range n {
					b.Records = append(b.Records, d.record(d.sent+i))
				}
				sent := len(b.Records)
				s.filter(b)
				again += sent - len(b.Records)
				for _, r := range b.Records {
					count[string(r.Raw)]++
				}
				if b.LSNs() > 0 {
					since = append(since, b)
				}
				d.sent += n
				if !lost {
					d.base += rng.IntN(d.sent - d.base + 1)
				}
				if d.stock && d.base < d.sent { // no acknowledgement: it comes again
					d.open = false
				}
				d.open = d.open && !lost
			}
			for range kills {
				for range 4 * len(all) {
					step(all[rng.IntN(len(all))], rng.IntN(50) == 0)
					if rng.IntN(1000) == 0 {
						apply(stored, s.changes())
						since = nil
					}
				}
				var err error
				if s, err = loadSenders(kvs(stored), 100); err != nil {
					t.Fatal(err)
				}
				for _, b := range since {
					s.observe(b)
				}
				s.forgetConnections()
				conn = 0 // numbers of connections start again, behind those of the journal
				for _, b := range since {
					conn = max(conn, b.Conn)
				}
				for _, d := range all {
					d.open = false
				}
				now = now.Add(time.Hour)
			}
			twice, records := 0, 0
			for _, n := range count {
				records++
				twice += n - 1
			}
			t.Logf("%d kills, %d records, %d sent again, %d stored twice; %d bytes of memory, at most %d; %d keys stored", kills, records, again, twice, s.bytes, s.most, len(stored))
			if twice > 0 || again < 500 || s.forgotten > 0 {
				t.Errorf("%d of %d records are stored twice, %d were sent again, %d numberings forgotten", twice, records, again, s.forgotten)
			}
			for _, d := range all {
				for i := range d.base {
					if r := d.record(i); count[string(r.Raw)] != 1 {
						t.Fatalf("%s: record %d was acknowledged and is stored %d times", d.name, i, count[string(r.Raw)])
					}
				}
			}
		})
	}
}

// A sender with ever new names, numberings and connections takes no memory from
// others: it is its own that is forgotten, and that is counted.
func TestSendersAreFair(t *testing.T) {
	t.Parallel()
	s := newSenders(1000)
	s.most = 4 << 20
	at := func(address int, conn uint64, recs ...Record) int {
		b := &Batch{Conn: conn, Sender: from(addr(address)), Managed: true, Received: time.Unix(1, 0), Records: recs}
		s.filter(b)
		return len(b.Records)
	}
	for i := range 20 { // good ones, quiet from now on
		at(i, uint64(i), own(uint32(i)<<20, "a"), own(uint32(i)<<20+1, "b"))
		at(i, uint64(1000+i), stockRec(1, "c"))
	}
	for i := range uint32(6_000) {
		at(200, uint64(10_000+i), own(i<<16, fmt.Sprintf("node=n%d x", i)), stockRec(1, fmt.Sprint("y", i)))
		at(200, 5, own(7, fmt.Sprint("z", i))) // one number, ever other bytes
		if s.bytes > s.most {
			t.Fatalf("%d bytes of memory, at most %d", s.bytes, s.most)
		}
	}
	t.Logf("%d bytes of memory, at most %d; %d forgotten", s.bytes, s.most, s.forgotten)
	if s.forgotten == 0 {
		t.Error("nothing is counted as forgotten")
	}
	for i := range 20 {
		if n := at(i, uint64(100_000+i), own(uint32(i)<<20, "a"), own(uint32(i)<<20+1, "b"), own(uint32(i)<<20+2, "new")); n != 1 {
			t.Errorf("sender %d: %d records are kept, want the new one only", i, n)
		}
		if n := at(i, uint64(200_000+i), stockRec(9, "c")); n != 0 {
			t.Errorf("stock sender %d: its resend is kept", i)
		}
	}
	// What was forgotten is not kept in the store either, and nothing is counted wrong.
	stored := map[string][]byte{}
	apply(stored, s.changes())
	back, err := loadSenders(kvs(stored), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range s.all {
		s.remove(x)
	}
	if s.bytes != 0 {
		t.Errorf("%d bytes are counted with nothing there", s.bytes)
	}
	apply(stored, s.changes())
	if len(stored) != 0 || len(back.all) != 21 {
		t.Errorf("%d keys are left, %d addresses were", len(stored), len(back.all))
	}
}

// TestSendersMemory compares what is counted with the heap.
func TestSendersMemory(t *testing.T) { // not parallel: the heap is the program's
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	for _, c := range []struct {
		name string
		fill func(put func(address int, conn uint64, recs ...Record))
	}{
		{"numberings with a record each", func(put func(int, uint64, ...Record)) {
			for i := range 10_000 {
				put(1, uint64(i), own(uint32(i)<<16, fmt.Sprintf("node=n%d x", i)))
			}
		}},
		{"whole windows", func(put func(int, uint64, ...Record)) {
			for i := range 50 {
				for k := range uint32(Window) {
					put(1, uint64(i), own(uint32(i)<<20+k, "x"))
				}
			}
		}},
		{"stock senders", func(put func(int, uint64, ...Record)) {
			for i := range 20_000 {
				put(1, uint64(i), stockRec(1, fmt.Sprint(i)))
			}
		}},
		{"addresses", func(put func(int, uint64, ...Record)) {
			for i := range 5_000 {
				put(i, uint64(i), stockRec(1, fmt.Sprint(i)))
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := heap()
			s := newSenders(1 << 20)
			c.fill(func(address int, conn uint64, recs ...Record) {
				peer := addr(address)
				if address > 255 {
					a := peer.Addr().As4()
					a[2] = byte(address >> 8)
					peer = addrPort(a)
				}
				s.filter(&Batch{Conn: conn, Sender: from(peer), Managed: true, Received: time.Unix(1, 0), Records: recs})
			})
			s.changes() // what is stored is remembered, too
			used := heap() - before
			f := float64(used) / float64(s.bytes)
			t.Logf("%d counted, %d of heap (%.2f)", s.bytes, used, f)
			if f > 1.5 || f < 1/1.5 {
				t.Errorf("the heap is %.2f of what is counted", f)
			}
			runtime.KeepAlive(s)
		})
	}
}

// TestSendersOfBefore reads what the versions before wrote: streams without a name,
// and all tails of an address in one value.
func TestSendersOfBefore(t *testing.T) {
	t.Parallel()
	a16 := addr(1).Addr().As16()
	key := func(kind byte, rest ...byte) []byte { return append(append(a16[:len(a16):len(a16)], kind), rest...) }
	hashes := make([]byte, 4*chunkLen)
	for i, raw := range []string{"a", "b"} {
		binary.LittleEndian.PutUint32(hashes[4*(5+i):], uint32(xxhash.Sum64String(raw)))
	}
	var tails []byte
	for _, raw := range []string{"x", "y"} {
		tails = binary.LittleEndian.AppendUint64(tails, xxhash.Sum64String(raw))
	}
	old := []KV{
		{key('o', 0, 0, 0, 1), []byte{1, 6, 0, 0, 0}},
		{key('r', 0, 0, 0, 1, 0), hashes},
		{key('s'), tails},
	}
	s, err := loadSenders(old, 10)
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string][]byte{}
	for _, kv := range old {
		stored[string(kv.Key)] = kv.Value
	}
	apply(stored, s.changes())
	if stored[string(key('s'))] != nil {
		t.Error("the tails of before stay beside the new ones")
	}
	// From memory, and from what is written now.
	again, err := loadSenders(kvs(stored), 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*senders{s, again} {
		if got := kept(s, 1, own(5, "a"), own(6, "b"), own(7, "c")); got != "c " {
			t.Errorf("of our numbering %q is kept", got)
		}
		if got := kept(s, 2, stockRec(1, "x")) + kept(s, 3, stockRec(1, "y")) + kept(s, 4, stockRec(1, "z")); got != "z " {
			t.Errorf("of stock senders %q is kept", got)
		}
	}
	if n := slices.Max([]int{len(s.all), len(again.all)}); n != 1 {
		t.Errorf("%d addresses", n)
	}
}

// A replay over two processes does not take the first connection of one for that of
// the other, which is another sender's behind the same address.
func TestConnectionsOfTwoProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	send := func(j *Journal, conn uint64, raw string) int {
		t.Helper()
		b := &Batch{Conn: conn, Sender: from(addr(1)), Managed: true, Received: time.Unix(1, 0), Records: []Record{stockRec(1, raw)}}
		if err := put(t, j, b); err != nil {
			t.Fatal(err)
		}
		return len(b.Records)
	}
	for i, raw := range []string{"node=a one", "node=b two", "node=c three"} {
		j, _ := start(t, Options{Dir: dir}, Resume{})
		if send(j, 1, raw) != 1 {
			t.Errorf("record %d is not stored", i)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	j, _ := start(t, Options{Dir: dir}, Resume{})
	for i, raw := range []string{"node=c three", "node=a one", "node=b two"} {
		if send(j, uint64(i+1), raw) != 0 {
			t.Errorf("the resend of %q is stored", raw)
		}
	}
}
