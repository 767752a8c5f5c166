package ship_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	audisp "github.com/auditfleet/auditfleet/forwarder/internal/ship/remote"
)

// loopSource gives the same 350 bytes n times, with nothing to lock.
type loopSource struct {
	n, next uint64
	acked   atomic.Uint64
	ready   chan struct{}
	line    []byte
}

func (s *loopSource) Next() (uint64, uint32, []byte, error) {
	if s.next > s.n {
		return 0, 0, nil, io.EOF
	}
	i := s.next
	s.next++
	return i, 0x80000000 | uint32(i), s.line, nil
}
func (s *loopSource) Ready() <-chan struct{}           { return s.ready }
func (s *loopSource) Seek(index uint64)                { s.next = index }
func (s *loopSource) Ack(index uint64) error           { s.acked.Store(index); return nil }
func (s *loopSource) Stream(uint64) ([16]byte, uint64) { return [16]byte{1}, math.MaxUint64 }
func (s *loopSource) Renew() error                     { return nil }
func (s *loopSource) Rewind(i uint64) (uint64, error)  { return i, nil }
func (s *loopSource) Newest() uint64                   { return math.MaxUint64 }
func (s *loopSource) First() uint64                    { return s.acked.Load() + 1 }
func (s *loopSource) Left() uint64                     { return s.n - s.acked.Load() }

func cpu() time.Duration {
	var ru syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &ru) // can't fail
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// benchShip sends b.N records to addr and reports records a second and this process's
// CPU a record.
func benchShip(b *testing.B, addr string, window int) {
	line := fmt.Appendf(nil, "%-350s", lines(1)[0])
	src := &loopSource{n: uint64(b.N), next: 1, ready: make(chan struct{}, 1), line: line}
	m := &ship.Metrics{}
	s, err := ship.New(ship.Config{Servers: []string{addr}, Transport: audisp.Transport{}, Window: window, Metrics: m}, src)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	b.ResetTimer()
	before := cpu()
	go func() { s.Run(ctx); close(done) }()
	dctx, dcancel := context.WithTimeout(ctx, 10*time.Minute)
	defer dcancel()
	if _, err := s.Drain(dctx); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/record")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(m.Writes.Load())/float64(b.N), "writes/record")
	cancel()
	<-done
}

// Against the stock auditd the CPU is the sender's alone.
func BenchmarkStockServer(b *testing.B) {
	for _, window := range []int{1, 256, ship.MaxWindow} {
		b.Run(fmt.Sprintf("window%d", window), func(b *testing.B) {
			a, _ := stockServer(b)
			benchShip(b, a.Addr(), window)
		})
	}
}

// Against a server in this process; the CPU is that of both, and of the proxy.
func BenchmarkLoopback(b *testing.B) {
	for _, window := range []int{1, 256, ship.MaxWindow} {
		b.Run(fmt.Sprintf("window%d", window), func(b *testing.B) {
			srv := serve(b, (*peer).ackAll)
			benchShip(b, srv.addr(), window)
		})
	}
}

func BenchmarkDelay50ms(b *testing.B) {
	for _, window := range []int{1, 256, ship.MaxWindow} {
		b.Run(fmt.Sprintf("window%d", window), func(b *testing.B) {
			srv := serve(b, (*peer).ackAll)
			px := newProxy(b, srv.addr(), 25*time.Millisecond, nil)
			benchShip(b, px.addr(), window)
		})
	}
}
