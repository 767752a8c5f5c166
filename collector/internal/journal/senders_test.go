package journal

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/pkg/event"
)

func addr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 1000)
}

// from is a sender in clear text.
func from(ap netip.AddrPort) Sender { return Sender{Addr: ap, Transport: event.TransportTCP} }

func own(seq uint32, raw string) Record {
	return Record{Seq: OwnNumbering | seq&seqMask, Raw: []byte(raw)}
}

func stockRec(seq uint32, raw string) Record { return Record{Seq: seq, Raw: []byte(raw)} }

// kept runs a batch through the filter and says what stayed.
func kept(s *senders, conn uint64, recs ...Record) string {
	b := &Batch{Conn: conn, Sender: from(addr(1)), Managed: true, Received: time.Unix(1, 0), Records: recs}
	s.filter(b)
	out := ""
	for i := range b.Records {
		out += string(b.Records[i].Raw) + " "
	}
	return out
}

func TestOwnNumbering(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		run  func(s *senders) string
		want string
	}{
		{"in order, all kept", func(s *senders) string { return kept(s, 1, own(5, "a"), own(6, "b"), own(7, "b")) }, "a b b "},
		{"identical bytes, other numbers", func(s *senders) string { kept(s, 1, own(5, "a")); return kept(s, 2, own(6, "a"), own(7, "a")) }, "a a "},
		{"resent over a new connection", func(s *senders) string {
			kept(s, 1, own(5, "a"), own(6, "b"), own(7, "c"))
			return kept(s, 2, own(6, "b"), own(7, "c"), own(8, "d"))
		}, "d "},
		{"resent over the same connection", func(s *senders) string {
			kept(s, 1, own(5, "a"), own(6, "b"))
			return kept(s, 1, own(5, "a"), own(6, "b"))
		}, ""},
		{"the old connection's rest comes after the new one's resend", func(s *senders) string {
			kept(s, 1, own(5, "a"))
			kept(s, 2, own(5, "a"), own(6, "b"), own(7, "c"))
			return kept(s, 1, own(6, "b"), own(7, "c"))
		}, ""},
		{"a new spool begins below", func(s *senders) string {
			for i := uint32(1); i <= 100; i++ {
				kept(s, 1, own(i, fmt.Sprint("old", i)))
			}
			return kept(s, 2, own(1, "x"), own(2, "y"), own(3, "z"))
		}, "x y z "},
		{"and its resend is known, the old one's too", func(s *senders) string {
			kept(s, 1, own(1, "o1"), own(2, "o2"), own(3, "o3"))
			kept(s, 2, own(1, "x"), own(2, "y"))
			return kept(s, 3, own(1, "x"), own(2, "y"), own(3, "z")) + kept(s, 4, own(2, "o2"), own(3, "o3"), own(4, "o4"))
		}, "z o4 "},
		{"a gap, then what lay in it", func(s *senders) string {
			kept(s, 1, own(1, "a"), own(5, "e"))
			return kept(s, 1, own(3, "c"), own(5, "e"), own(6, "f"))
		}, "c f "},
		{"over the end of the numbers", func(s *senders) string {
			kept(s, 1, own(seqMask-1, "a"), own(seqMask, "b"), own(0, "c"))
			return kept(s, 2, own(seqMask, "b"), own(0, "c"), own(1, "d"))
		}, "d "},
		{"beyond the window nothing is dropped", func(s *senders) string {
			kept(s, 1, own(1, "a"))
			for i := uint32(2); i <= Window+1; i++ {
				kept(s, 1, own(i, "x"))
			}
			return kept(s, 2, own(1, "a"))
		}, "a "},
		{"not managed", func(s *senders) string {
			b := &Batch{Conn: 1, Sender: from(addr(1)), Records: []Record{{Raw: []byte("a")}, {Raw: []byte("a")}}}
			s.filter(b)
			return fmt.Sprint(len(b.Records))
		}, "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.run(newSenders(10)); got != c.want {
				t.Errorf("kept %q, want %q", got, c.want)
			}
		})
	}
}

func TestStockNumbering(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		run  func(s *senders) string
		want string
	}{
		{"first of a new connection is the last of the old", func(s *senders) string {
			kept(s, 1, stockRec(1, "a"))
			kept(s, 1, stockRec(2, "b"))
			return kept(s, 2, stockRec(4, "b"))
		}, ""},
		{"only the first", func(s *senders) string {
			kept(s, 1, stockRec(1, "a"))
			return kept(s, 2, stockRec(2, "x"), stockRec(3, "a"))
		}, "x a "},
		{"not an earlier one than the last", func(s *senders) string {
			kept(s, 1, stockRec(1, "a"), stockRec(2, "b"))
			return kept(s, 2, stockRec(1, "a"))
		}, "a "},
		{"identical within a connection", func(s *senders) string {
			return kept(s, 1, stockRec(1, "a"), stockRec(2, "a")) + kept(s, 1, stockRec(3, "a"))
		}, "a a a "},
		{"twice in a row", func(s *senders) string {
			kept(s, 1, stockRec(1, "a"))
			return kept(s, 2, stockRec(2, "a")) + kept(s, 3, stockRec(3, "a")) + kept(s, 3, stockRec(4, "b"))
		}, "b "},
		{"another address", func(s *senders) string {
			kept(s, 1, stockRec(1, "a"))
			b := &Batch{Conn: 2, Sender: from(addr(2)), Managed: true, Records: []Record{stockRec(1, "a")}}
			s.filter(b)
			return fmt.Sprint(len(b.Records))
		}, "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.run(newSenders(10)); got != c.want {
				t.Errorf("kept %q, want %q", got, c.want)
			}
		})
	}
}

func TestForgottenCommit(t *testing.T) {
	t.Parallel()
	s := newSenders(10)
	for _, mk := range []func(uint32, string) Record{own, stockRec} {
		kept(s, 1, mk(1, "a"))
		b := &Batch{Conn: 1, Sender: from(addr(1)), Managed: true, Records: []Record{mk(2, "b")}}
		s.filter(b)
		s.forget(b)
		if got := kept(s, 2, mk(2, "b")); got != "b " {
			t.Errorf("a record whose commit failed is dropped when it comes again: %q", got)
		}
	}
	// A resend whose commit failed is still one when it comes a third time.
	kept(s, 3, stockRec(1, "r"))
	b := &Batch{Conn: 4, Sender: from(addr(1)), Managed: true, Records: []Record{stockRec(2, "r")}}
	s.filter(b)
	s.forget(b)
	if got := kept(s, 4, stockRec(3, "r")); got != "" {
		t.Errorf("kept %q", got)
	}
}

func TestSendersAreBounded(t *testing.T) {
	t.Parallel()
	s := newSenders(4)
	stored := map[string][]byte{}
	for i := range 50 {
		b := &Batch{Conn: uint64(i), Sender: from(addr(i)), Managed: true, Records: []Record{own(1, "a"), stockRec(1, "b")}}
		s.filter(b)
		apply(stored, s.changes())
		if len(s.all) > 4 {
			t.Fatalf("%d senders are remembered, 4 is the most", len(s.all))
		}
	}
	// What was forgotten is not kept in the store either.
	back, err := loadSenders(kvs(stored), 100)
	if err != nil || len(back.all) != 4 {
		t.Errorf("%d senders in the store, %v; want 4", len(back.all), err)
	}
}

func apply(m map[string][]byte, list []KV) {
	for _, kv := range list {
		if len(kv.Value) == 0 {
			delete(m, string(kv.Key))
		} else {
			m[string(kv.Key)] = kv.Value
		}
	}
}

func kvs(m map[string][]byte) (out []KV) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, KV{[]byte(k), m[k]})
	}
	return out
}

// device is a sender in the model: it resends over a new connection what was not
// acknowledged, as far as its window goes.
type device struct {
	name    string
	stock   bool
	peer    int
	conn    uint64
	base    int // index of the first record not acknowledged
	sent    int // next to send on this connection
	attempt uint32
	epoch   int
}

func (d *device) raw(i int) string {
	// Pairs of identical records are legitimate, except where only bytes tell a
	// resend: a stock sender's.
	if !d.stock {
		i /= 2
	}
	return fmt.Sprintf("%s/%d/%d", d.name, d.epoch, i)
}

// TestResendsModel has devices of both kinds, behind shared addresses, lose
// connections, lose acknowledgements, meet failing commits, crashes with replay,
// and new spools; every record must have been stored exactly once.
func TestResendsModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const window = 40
		s := newSenders(100)
		stored := map[string][]byte{}
		var since []*Batch // committed after the last checkpoint
		count := map[string]int{}
		conn := uint64(0)
		devices := []*device{{name: "f1", peer: 1}, {name: "f2", peer: 1}, {name: "f3", peer: 2}, {name: "s1", peer: 3, stock: true}, {name: "s2", peer: 4, stock: true}}
		connect := func(d *device) {
			conn++
			d.conn, d.sent = conn, d.base
		}
		for _, d := range devices {
			connect(d)
		}
		send := func(d *device, most int, ok bool) (n int) {
			w := window
			if d.stock {
				w = 1
			}
			n = min(most, d.base+w-d.sent)
			if n <= 0 {
				return 0
			}
			b := &Batch{Conn: d.conn, Sender: from(addr(d.peer)), Managed: true, Received: time.Unix(1, 0)}
			keys := map[string]string{}
			for i := d.sent; i < d.sent+n; i++ {
				d.attempt++
				r := own(uint32(i+1), d.raw(i))
				if d.stock {
					r = stockRec(d.attempt, d.raw(i))
				}
				keys[fmt.Sprint(r.Seq)] = fmt.Sprintf("%s/%d/%d", d.name, d.epoch, i)
				b.Records = append(b.Records, r)
			}
			s.filter(b)
			if !ok {
				s.forget(b)
				return n
			}
			for _, r := range b.Records {
				count[keys[fmt.Sprint(r.Seq)]]++
			}
			since = append(since, b)
			return n
		}
		steps := rapid.IntRange(20, 400).Draw(t, "steps")
		for range steps {
			d := devices[rapid.IntRange(0, len(devices)-1).Draw(t, "device")]
			switch rapid.IntRange(0, 11).Draw(t, "what") {
			case 0: // the connection breaks
				connect(d)
			case 1: // a commit fails; the sender hears an error and starts again
				send(d, rapid.IntRange(1, 20).Draw(t, "n"), false)
				connect(d)
			case 2:
				apply(stored, s.changes())
				since = nil
			case 3: // kill, restart, replay
				var err error
				if s, err = loadSenders(kvs(stored), 100); err != nil {
					t.Fatal(err)
				}
				for _, b := range since {
					s.observe(b)
				}
				s.forgetConnections()
				conn = 0 // numbers of connections start again
				for _, d := range devices {
					connect(d)
				}
			case 4: // a new spool (never for a stock sender, which has no such thing)
				if !d.stock && d.base == d.sent {
					d.epoch++
					d.base = 0
					connect(d)
				}
			default:
				n := send(d, rapid.IntRange(1, 20).Draw(t, "n"), true)
				d.sent += n
				// Some acknowledgements arrive.
				d.base = rapid.IntRange(d.base, d.sent).Draw(t, "acked")
				if d.stock && d.base < d.sent {
					connect(d) // it waits for each one
				}
			}
		}
		for _, d := range devices {
			connect(d)
			d.sent += send(d, 20, true)
			d.base = d.sent
		}
		for k, n := range count {
			if n != 1 {
				t.Fatalf("record %s was stored %d times", k, n)
			}
		}
		for _, d := range devices {
			for i := range d.base {
				if k := fmt.Sprintf("%s/%d/%d", d.name, d.epoch, i); count[k] != 1 {
					t.Fatalf("record %s was acknowledged and stored %d times", k, count[k])
				}
			}
		}
	})
}

// TestMalformedSenders starts a journal whose store has values that cannot be read: the others count.
func TestMalformedSenders(t *testing.T) {
	s := newSenders(10)
	kept(s, 1, own(1, "a"), own(2, "b"))
	good := s.changes()
	bad := append([]KV{{[]byte("k"), []byte("v")}, {good[0].Key, []byte{9}}}, good...)
	if _, err := loadSenders(bad, 10); !errors.Is(err, ErrSenders) || !strings.Contains(err.Error(), "1 others") {
		t.Errorf("read with two malformed values: %v", err)
	}
	j, _, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Start(Resume{Senders: bad}, func(*Batch) error { return nil }); err != nil {
		t.Fatal(err)
	}
	want := len(s.all)
	if got := len(j.senders.all); got != want {
		t.Errorf("%d senders are known, want %d", got, want)
	}
}

func FuzzLoadSenders(f *testing.F) {
	s := newSenders(10)
	kept(s, 1, own(1, "a"), stockRec(2, "b"))
	for _, kv := range s.changes() {
		f.Add(kv.Key, kv.Value)
	}
	f.Fuzz(func(t *testing.T, k, v []byte) {
		s, err := loadSenders([]KV{{k, v}}, 10)
		if err != nil && !errors.Is(err, ErrSenders) {
			t.Fatal(err)
		}
		kept(s, 1, own(1, "a"), own(9999, "b"), stockRec(2, "b"))
		if _, err := loadSenders(s.changes(), 10); err != nil {
			t.Fatal(err)
		}
	})
}

// A name that was verified is the same sender from any address, and another one than
// whoever else sends from there; also after it was read from the store.
func TestVerifiedSender(t *testing.T) {
	t.Parallel()
	s := newSenders(10)
	record := func(seq uint32) Record { return own(seq, fmt.Sprintf("node=web1 %d", seq)) }
	send := func(conn uint64, from Sender, r Record) (kept int) {
		b := &Batch{Conn: conn, Sender: from, Managed: true, Received: time.Unix(1, 0), Records: []Record{r}}
		s.filter(b)
		return len(b.Records)
	}
	web1 := func(i int) Sender { return Sender{Verified: "web1", Addr: addr(i), Transport: event.TransportTCP} }
	if send(1, web1(1), record(1)) != 1 || send(2, web1(2), record(1)) != 0 {
		t.Error("its resend from another address was not recognised")
	}
	if send(3, from(addr(1)), record(1)) != 1 || send(4, Sender{Verified: "web2", Addr: addr(1), Transport: event.TransportTCP}, record(1)) != 1 {
		t.Error("another sender's record was taken for its resend")
	}
	if send(2, web1(2), stockRec(7, "stock")) != 1 {
		t.Error("a first record was dropped")
	}
	var err error
	if s, err = loadSenders(s.changes(), 10); err != nil {
		t.Fatal(err)
	}
	if send(5, web1(3), record(1)) != 0 || send(6, web1(4), stockRec(1, "stock")) != 0 || send(7, from(addr(1)), record(1)) != 0 {
		t.Error("after loading, a resend was not recognised")
	}
	if send(8, Sender{Verified: "web3", Addr: addr(1)}, record(1)) != 1 {
		t.Error("after loading, another sender's record was taken for a resend")
	}
}

func TestSenderKeys(t *testing.T) {
	t.Parallel()
	for _, id := range []identity{{addr: addr(7).Addr()}, {addr: netip.MustParseAddr("2001:db8::1")}, {name: "web1"}, {name: "n"}} {
		x := &sender{id: id}
		got, kind, rest, ok := cutKey(x.key(kindHashes, 1, 2, 3, 4, 5))
		if !ok || got != id || kind != kindHashes || string(rest) != "\x01\x02\x03\x04\x05" {
			t.Errorf("%v: read as %v, kind %q, %x, %v", id, got, kind, rest, ok)
		}
	}
	name := (&sender{id: identity{name: "web1"}}).key(kindTail)
	for _, key := range [][]byte{nil, name[:16], name[:17], name[:18], name[:len(name)-1], append([]byte{1}, name[1:]...), append(name[:17:17], 0, kindTail)} {
		if _, _, _, ok := cutKey(key); ok {
			t.Errorf("key %x was read", key)
		}
	}
}

func addrPort(a [4]byte) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4(a), 1000) }
