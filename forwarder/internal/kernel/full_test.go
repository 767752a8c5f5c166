package kernel_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
)

// text is a log that is written and read at once.
type text struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (s *text) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *text) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func logTo(s *text) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Output: s, Level: hclog.Info})
}

// A kernel drops a daemon that does not read for a while, which is what one that holds
// does. It is not asked again while its answer can't be read; once there is room, the
// daemon registers at once.
func TestDroppedWhileHolding(t *testing.T) {
	k := fakekernel.New()
	var said text
	l := start(t, kernel.Config{
		QueueBytes: 1 << 20, Linger: -1, StatusEvery: 5 * time.Millisecond, Full: kernel.Full{When: kernel.FullWait},
		Socket: k.Socket(me, 1<<20, false), Control: k.Conn(me), Logger: logTo(&said),
	})
	for range 5000 {
		k.Emit(1300, strings.Repeat("x", 1000))
	}
	wait(t, "the reader holds", func() bool { return l.Stats().Paused > 3 })
	k.DropDaemon()
	wait(t, "it is said", func() bool {
		return strings.Contains(said.String(), "has dropped our registration, because nothing is read")
	})
	looks := len(k.Requests())
	wait(t, "it looks on", func() bool { return len(k.Requests()) > looks+5 })
	if n := l.Stats().Registered; n != 1 {
		t.Errorf("registered %d times while it held", n)
	}
	go func() {
		for {
			if b := l.Queue().TryTake(); b != nil {
				l.Queue().Release(b)
			} else if l.Queue().Closed() {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	wait(t, "it is registered again", func() bool { return k.Status().PID == me && l.Stats().Registered == 2 })
	l.stop(t)
	if s := said.String(); strings.Contains(s, "no answer") || strings.Contains(s, "[ERROR]") || strings.Count(s, "because nothing is read") != 1 {
		t.Errorf("said: %s", s)
	}
}

// Whether a registration was taken is seen by who is registered: the acknowledgement
// is lost where the receive buffer is full.
func TestRegistersWithoutAcknowledgement(t *testing.T) {
	k := fakekernel.New()
	var said text
	sock := k.Socket(me, 1<<20, false)
	l := start(t, kernel.Config{Linger: -1, StatusEvery: 5 * time.Millisecond, Socket: sock, Control: k.Conn(me), Logger: logTo(&said)})
	sock.LoseAcks()
	k.DropDaemon()
	wait(t, "it is registered again", func() bool { return k.Status().PID == me && l.Stats().Registered == 2 })
	l.stop(t)
	if s := said.String(); strings.Contains(s, "no answer") {
		t.Errorf("said: %s", s)
	}
}

// What a full queue means can be changed while it is full, and is said.
func TestFullPolicyChanges(t *testing.T) {
	t.Parallel()
	k := fakekernel.New()
	k.SetStatus(func(s *kernel.Status) { s.Failure = 2 })
	var said text
	l := start(t, kernel.Config{
		QueueBytes: 1 << 20, Linger: -1, StatusEvery: time.Hour, Full: kernel.Full{When: kernel.FullDrop},
		Socket: k.Socket(me, 1<<20, false), Control: k.Conn(me), Logger: logTo(&said),
	})
	if s := said.String(); !strings.Contains(s, "queue_full_action: failure mode 2 has the kernel stop this machine") {
		t.Errorf("said at the start: %s", s)
	}
	emit := func() { k.Emit(1300, strings.Repeat("x", 1000)) }
	wait(t, "records are dropped", func() bool { emit(); return l.Stats().Lost["queue"] > 0 })
	l.SetFull(kernel.Full{When: kernel.FullWait, Key: "overflow_action"})
	if s := said.String(); !strings.Contains(s, "failure mode 2: while the queue is full the kernel is not read") {
		t.Errorf("said at the change: %s", s)
	}
	wait(t, "the kernel decides", func() bool { emit(); return k.Status().Lost > 0 })
	l.SetFull(kernel.Full{When: kernel.FullDrop})
	was := l.Stats().Lost["queue"]
	wait(t, "records are dropped again", func() bool { emit(); return l.Stats().Lost["queue"] > was })
	l.cancel()
	takeAll(t, l.Queue())
	<-l.done
}

// A configuration that was locked since the start can't be put back, and that is no
// error.
func TestLockedSinceTheStart(t *testing.T) {
	k := fakekernel.New()
	var said text
	l := start(t, kernel.Config{Socket: k.Socket(me, 1<<20, false), Control: k.Conn(me), Logger: logTo(&said)})
	k.SetStatus(func(s *kernel.Status) { s.Enabled = 2 })
	l.cancel()
	takeAll(t, l.Queue())
	if err := <-l.done; err != nil {
		t.Error(err)
	}
	if s := said.String(); strings.Contains(s, "[ERROR]") || !strings.Contains(s, "locked until the machine boots again") {
		t.Errorf("said: %s", s)
	}
	if s := k.Status(); s.PID != 0 || s.Enabled != 2 {
		t.Errorf("left: %+v", s)
	}
}
