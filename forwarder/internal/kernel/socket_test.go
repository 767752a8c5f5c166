package kernel_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/internal/need"
)

// The real socket keeps what Socket promises of Wait, Pause and Wake.
func TestSocketWaits(t *testing.T) {
	need.Kernel(t)
	s, err := kernel.NewSocket(kernel.SocketConfig{ReceiveBuffer: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Errorf("close, twice: %v", err)
		}
	}()
	slots := []kernel.Datagram{{Buf: make([]byte, 9000)}, {Buf: make([]byte, 9000)}}
	// Each must return, and not before its time.
	took := func(what string, least time.Duration, f func() error) {
		t.Helper()
		begin := time.Now()
		if err := f(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if d := time.Since(begin); d < least {
			t.Errorf("%s took %v, want %v at least", what, d, least)
		}
	}
	const long = time.Hour // one that is not ended outlasts the test
	wait := func(d time.Duration) func() error { return func() error { return s.Wait(d) } }
	pause := func(d time.Duration) func() error { return func() error { s.Pause(d); return nil } }
	var others sync.WaitGroup
	defer others.Wait()                                         // before the socket is closed
	during := func(f func() error, other func()) func() error { // other comes after 30 ms of f, or later
		return func() error {
			others.Go(func() {
				time.Sleep(30 * time.Millisecond)
				other()
			})
			return f()
		}
	}
	status := func() {
		msg := kernel.AppendMessage(nil, kernel.Message{Type: kernel.MsgGet, Flags: unix.NLM_F_REQUEST, Seq: 1})
		if err := s.Send(msg); err != nil {
			t.Error(err)
		}
	}
	for range 2 { // what is left of a round must not change the next
		took("a wait for nothing", 20*time.Millisecond, wait(20*time.Millisecond))
		took("a pause", 20*time.Millisecond, pause(20*time.Millisecond))

		status()
		took("a wait for what is there", 0, wait(long))
		took("a wait for what is still there", 0, wait(-1))
		if n, err := s.Recv(slots); err != nil || n != 1 {
			t.Fatalf("%d answers, %v", n, err)
		}
		if _, err := s.Recv(slots); !errors.Is(err, unix.EAGAIN) {
			t.Fatalf("the empty socket: %v", err)
		}

		took("a wait for what comes", 20*time.Millisecond, during(wait(-1), status))
		if n, err := s.Recv(slots); err != nil || n != 1 {
			t.Fatalf("%d answers, %v", n, err)
		}

		took("a pause that is woken", 20*time.Millisecond, during(pause(long), s.Wake))
		took("the pause after it", 0, pause(long))
		took("the wait after it", 0, wait(-1))
		took("the wait after that", 20*time.Millisecond, wait(20*time.Millisecond))

		took("a wait that is woken", 20*time.Millisecond, during(wait(-1), s.Wake))
		took("the pause after it", 20*time.Millisecond, pause(20*time.Millisecond))

		took("a pause while something comes", 60*time.Millisecond, during(pause(60*time.Millisecond), status))
		took("a wait for it", 0, wait(-1))
		if n, err := s.Recv(slots); err != nil || n != 1 {
			t.Fatalf("%d answers, %v", n, err)
		}
	}
}
