package ship_test

import (
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// A server takes records, acknowledges none, and says something else all the time: an
// ACK, a complaint or a refusal of what it was never sent. That is no life: the
// connection is given up after ReplyTimeout, though records go on being written.
func TestAnswersToNothingAreNoLife(t *testing.T) {
	t.Parallel()
	for _, kind := range []remote.Type{remote.Ack, remote.DiskLow, remote.DiskFull, 0x70000001} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			src := newSource(lines(3)...)
			m := &ship.Metrics{}
			srv := serve(t, func(p *peer) {
				if m.UnexpectedReplies.Load() > 0 { // on a busy machine the first connection may end before its first answer is read
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
			s, _ := start(t, ship.Config{Servers: []string{srv.addr()}, ReplyTimeout: 300 * time.Millisecond, Metrics: m}, src)
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
	t.Parallel()
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
	m := &ship.Metrics{}
	s, _ := start(t, ship.Config{Servers: []string{srv.addr()}, Metrics: m}, newSource(lines(5000)...))
	drain(t, s)
	if n := m.UnexpectedReplies.Load(); n < floods*ship.MaxOdd || n > floods*(ship.MaxOdd+1) {
		t.Errorf("%d answers to nothing were looked at in %d connections, want %d in each", n, floods, ship.MaxOdd+1)
	}
}
