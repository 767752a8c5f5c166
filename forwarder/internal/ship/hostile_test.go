package ship

import (
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/proto/remote"
)

// A server takes records, acknowledges none, and says something else all the time: an
// ACK, a complaint or a refusal of what it was never sent. That is no life: the
// connection is given up after ReplyTimeout, though records go on being written.
func TestAnswersToNothingAreNoLife(t *testing.T) {
	for _, kind := range []remote.Type{remote.Ack, remote.DiskLow, remote.DiskFull, 0x70000001} {
		t.Run(kind.String(), func(t *testing.T) {
			src := newSource(lines(3)...)
			srv := serve(t, func(p *peer) {
				if p.n > 0 {
					p.serveAll()
					return
				}
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					for {
						if _, ok := p.recv(); !ok {
							return
						}
					}
				}()
				tick := time.NewTicker(20 * time.Millisecond)
				defer tick.Stop()
				for n := uint32(0); ; n++ {
					select {
					case <-gone:
						return
					case <-tick.C:
						src.add("type=USER msg=audit(1.000:1): more")
						p.reply(kind, 0x12345+n, "")
					}
				}
			})
			m := &Metrics{}
			s, _ := start(t, Config{Servers: []string{srv.addr()}, ReplyTimeout: 300 * time.Millisecond, Metrics: m}, src)
			until(t, func() bool { return m.Reconnects.Load() > 0 })
			drain(t, s)
			if m.UnexpectedReplies.Load() == 0 || m.Dropped.Load() > 0 {
				t.Errorf("%d unexpected replies, %d dropped", m.UnexpectedReplies.Load(), m.Dropped.Load())
			}
		})
	}
}

// A server floods answers to nothing: the connection ends after a bounded number of
// them, and records go out over the next.
func TestFloodOfAnswersToNothing(t *testing.T) {
	const floods = 3
	srv := serve(t, func(p *peer) {
		if p.n >= floods {
			p.serveAll()
			return
		}
		var flood []byte
		for n := range uint32(4096) {
			flood = remote.Append(flood, remote.Ack, n*7919, []byte(strings.Repeat("x", 100)))
		}
		for range 1000 {
			if _, err := p.conn.Write(flood); err != nil {
				return
			}
		}
		p.t.Error("four million answers to nothing were taken")
	})
	m := &Metrics{}
	s, _ := start(t, Config{Servers: []string{srv.addr()}, Metrics: m}, newSource(lines(5000)...))
	drain(t, s)
	if n := m.UnexpectedReplies.Load(); n < floods*maxOdd || n > floods*(maxOdd+1) {
		t.Errorf("%d answers to nothing were looked at in %d connections, want %d in each", n, floods, maxOdd+1)
	}
}

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
