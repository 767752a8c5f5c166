package kernel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/internal/need"
)

const me = 100

type running struct {
	*kernel.Listener
	cancel context.CancelFunc
	done   chan error
}

func start(t *testing.T, cfg kernel.Config) *running {
	t.Helper()
	cfg.PID = me
	l, err := kernel.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Listener: l, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		l.Queue().Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// takeAll collects what is in the queue until it is closed.
func takeAll(t *testing.T, q *kernel.Queue) []string {
	t.Helper()
	var lines []string
	for {
		b, err := q.Take(context.Background())
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Len() {
			r := b.Record(i)
			lines = append(lines, fmt.Sprint(r.Type, " ", string(r.Text)))
		}
		q.Release(b)
	}
}

func TestListenerTakesInAndHandsBack(t *testing.T) {
	k := fakekernel.New()
	l := start(t, kernel.Config{Socket: k.Socket(me, 1<<20, false), Control: k.Conn(me)})
	if s := k.Status(); s.PID != me || s.Enabled != 1 {
		t.Fatalf("after Open: %+v, want our pid and enabled", s)
	}
	k.Emit(1300, "one")
	k.Emit(1327, "two\n\x00")
	l.cancel()
	got := takeAll(t, l.Queue())
	l.stop(t)
	want := []string{
		"1305 audit(1700000000.000:1): op=set audit_enabled=1 old=0 auid=0 ses=1 res=1",
		"1300 audit(1700000000.002:2): one",
		"1327 audit(1700000000.003:3): two",
		"1305 audit(1700000000.000:4): op=set audit_enabled=0 old=1 auid=0 ses=1 res=1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if s := k.Status(); s.PID != 0 || s.Enabled != 0 || s.Lost != 0 {
		t.Errorf("after the end: %+v, want nobody registered and audit off as before", s)
	}
}

// TestOldTypesAreRecords: a login, and the message of auditctl -m, have types
// below those of all other records.
func TestOldTypesAreRecords(t *testing.T) {
	k := fakekernel.New()
	r := start(t, kernel.Config{Socket: k.Socket(me, 1<<20, false), Control: k.Conn(me)})
	k.Emit(1006, "pid=5 uid=0 old-auid=4294967295 auid=1000 res=1")
	if err := k.Conn(7).SendUser(kernel.MsgUser, []byte("text=hello")); err != nil {
		t.Fatal(err)
	}
	r.stop(t)
	got := takeAll(t, r.Queue())
	for _, want := range []string{"1006 audit(", "1005 audit("} {
		if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("no record %s…: %q", want, got)
		}
	}
}

func TestEnableModes(t *testing.T) {
	for _, c := range []struct {
		mode        kernel.EnableMode
		was, during uint32
	}{
		{kernel.Enable, 0, 1}, {kernel.Enable, 1, 1}, {kernel.Enable, 2, 2},
		{kernel.NoChange, 0, 0}, {kernel.NoChange, 1, 1},
		{kernel.Disable, 1, 0}, {kernel.Disable, 2, 2},
	} {
		k := fakekernel.New()
		k.SetStatus(func(s *kernel.Status) { s.Enabled = c.was })
		l := start(t, kernel.Config{Enable: c.mode, Socket: k.Socket(me, 1<<20, false), Control: k.Conn(me)})
		if got := k.Status().Enabled; got != c.during {
			t.Errorf("mode %d from %d: enabled %d, want %d", c.mode, c.was, got, c.during)
		}
		l.stop(t)
		if got := k.Status(); got.Enabled != c.was || got.PID != 0 {
			t.Errorf("mode %d from %d: at the end enabled %d, pid %d", c.mode, c.was, got.Enabled, got.PID)
		}
	}
	for word, want := range map[string]kernel.EnableMode{"enable": kernel.Enable, "nochange": kernel.NoChange, "disable": kernel.Disable} {
		if got, err := kernel.ParseEnableMode(word); err != nil || got != want {
			t.Errorf("%s: %v, %v", word, got, err)
		}
	}
	if _, err := kernel.ParseEnableMode("on"); err == nil {
		t.Error(`"on" was taken`)
	}
}

func TestOtherDaemonIsRefused(t *testing.T) {
	k := fakekernel.New()
	k.OtherDaemon(1)
	_, err := kernel.Open(kernel.Config{PID: me, Socket: k.Socket(me, 1<<20, false), Control: k.Conn(me)})
	if !errors.Is(err, kernel.ErrOtherDaemon) {
		t.Fatalf("%v, want ErrOtherDaemon", err)
	}
	for _, word := range []string{"pid 1", "--source multicast", "--source stdin", "stop it"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
	if s := k.Status(); s.PID != 1 || s.Enabled != 0 {
		t.Errorf("status %+v was changed", s)
	}
	k = fakekernel.New()
	k.Fail(kernel.MsgSet, unix.EPERM)
	_, err = kernel.Open(kernel.Config{PID: me, Socket: k.Socket(me, 1<<20, false), Control: k.Conn(me)})
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_AUDIT_CONTROL") {
		t.Errorf("without the capability: %v", err)
	}
}

// Whether the kernel audits is the other daemon's to say from then on.
func TestTakeover(t *testing.T) {
	k := fakekernel.New()
	k.SetStatus(func(s *kernel.Status) { s.Enabled = 0 })
	l := start(t, kernel.Config{StatusEvery: time.Millisecond, Socket: k.Socket(me, 1<<20, false), Control: k.Conn(me)})
	k.OtherDaemon(1)
	if err := <-l.done; !errors.Is(err, kernel.ErrOtherDaemon) {
		t.Errorf("Run: %v, want ErrOtherDaemon", err)
	}
	if s := k.Status(); s.PID != 1 || s.Enabled != 1 {
		t.Errorf("pid %d is registered, enabled is %d; want the other daemon left alone", s.PID, s.Enabled)
	}
}

// The kernel drops a daemon whose buffer stays full; then we must come back.
func TestRegistersAgain(t *testing.T) {
	k := fakekernel.New()
	l := start(t, kernel.Config{StatusEvery: time.Millisecond, Socket: k.Socket(me, 1<<20, false), Control: k.Conn(me)})
	k.SetStatus(func(s *kernel.Status) { s.PID = 0 })
	// The fake's daemon socket is gone with the registration.
	wait(t, "registered again", func() bool { return k.Status().PID == me && l.Stats().Registered == 2 })
	l.stop(t)
	if s := k.Status(); s.PID != 0 {
		t.Errorf("pid %d at the end", s.PID)
	}
}

var wait = need.Wait

func TestLossesHaveACause(t *testing.T) {
	k := fakekernel.New()
	k.SetStatus(func(s *kernel.Status) { s.Lost = 4294967290 })
	var clock atomic.Int64
	clock.Store(1700000000)
	sock := k.Socket(me, 1<<20, false)
	l := start(t, kernel.Config{
		StatusEvery: time.Millisecond, Socket: sock, Control: k.Conn(me),
		Now: func() time.Time { return time.Unix(clock.Load(), 0) },
	})
	k.SetStatus(func(s *kernel.Status) { s.Lost = 4294967293 })
	wait(t, "three lost in the kernel", func() bool { return l.Stats().Lost["kernel"] == 3 })
	clock.Add(60)
	k.SetStatus(func(s *kernel.Status) { s.Lost = 2 }) // reset by an administrator, then two more
	wait(t, "five lost in the kernel", func() bool { return l.Stats().Lost["kernel"] == 5 })
	k.EmitRaw(kernel.AppendMessage(nil, kernel.Message{Type: 1300, Payload: bytes.Repeat([]byte("x"), kernel.MaxMessage+100)}))
	k.EmitRaw([]byte("short"))
	k.EmitRaw(kernel.AppendMessage(nil, kernel.Message{Type: 1300, Payload: []byte("audit(1.000:1): ")}))
	wait(t, "a cut and a malformed message", func() bool { s := l.Stats(); return s.Lost["truncated"] == 1 && s.Lost["malformed"] == 1 })
	sock.Foreign(true)
	k.Emit(1300, "not the kernel's")
	wait(t, "a foreign message", func() bool { return l.Stats().Lost["malformed"] == 2 })
	sock.Foreign(false)
	losses, _ := l.TakeLosses()
	i := slices.IndexFunc(losses, func(x kernel.Loss) bool { return x.Cause == kernel.CauseKernel })
	if i < 0 || losses[i].Count != 5 || losses[i].First.Unix() != 1700000000 || losses[i].Last.Unix() != 1700000060 {
		t.Errorf("losses %+v, want five by the kernel within that minute", losses)
	}
	if again, _ := l.TakeLosses(); len(again) != 0 {
		t.Errorf("the second time: %+v", again)
	}
	l.stop(t)
	got := takeAll(t, l.Queue())
	if len(got) != 4 || len(got[1]) != len("1300 ")+9000-16 || strings.Contains(strings.Join(got, ""), "not the kernel's") {
		t.Errorf("%d records, want the two of the enabled flag, the cut one and the empty one", len(got))
	}
	for _, c := range kernel.Causes() {
		if c.String() == "unknown" {
			t.Errorf("cause %d has no name", c)
		}
	}
}

// Serials that never come are counted, and told once, by a look or at the end; they
// are no losses.
func TestSerialGaps(t *testing.T) {
	k := fakekernel.New()
	l := start(t, kernel.Config{StatusEvery: time.Millisecond, Socket: k.Socket(me, 1<<20, false), Control: k.Conn(me)})
	first := uint32(k.Emit(1300, "one"))
	k.Skip(3)
	k.Emit(1300, "two")
	var got kernel.SerialGaps
	wait(t, "a gap is told", func() bool { got = l.TakeSerialGaps(); return got.Count > 0 })
	if got.Count != 3 || got.First != first+1 || got.Last != first+3 || got.Since.After(got.Before) {
		t.Errorf("told: %+v, want the three after %d", got, first)
	}
	if again := l.TakeSerialGaps(); again.Count != 0 {
		t.Errorf("told again: %+v", again)
	}
	k.Skip(2)
	k.EmitRaw(kernel.AppendMessage(nil, kernel.Message{Type: 1300, Payload: []byte("audit(no header")}))
	l.stop(t) // audit off is one more event
	// The two may have been told already by a look, but then only once.
	if st := l.Stats(); st.SerialGaps != 5 {
		t.Errorf("%d gaps in all, want 5", st.SerialGaps)
	}
	if rest := l.TakeSerialGaps(); rest.Count != 2 {
		t.Errorf("at the end: %+v, want two", rest)
	}
	for cause, n := range l.Stats().Lost {
		if n > 0 {
			t.Errorf("%d lost by %s: a gap is no loss", n, cause)
		}
	}
}

// A consumer that stands still: records rest in the socket while it has room,
// then they are dropped and counted; nothing is lost in the kernel. A listener's buffer
// is never more than half full, for the kernel would be slow then.
func TestFullQueueDropsCountedNeverWaits(t *testing.T) {
	t.Run("daemon", func(t *testing.T) { fullQueueDrops(t, false) })
	t.Run("multicast", func(t *testing.T) { fullQueueDrops(t, true) })
}

func fullQueueDrops(t *testing.T, multicast bool) {
	k := fakekernel.New()
	const socketRoom = 1 << 20
	sock := k.Socket(me, socketRoom, multicast)
	l := start(t, kernel.Config{QueueBytes: 1 << 20, Linger: -1, Multicast: multicast, Socket: sock, Control: k.Conn(me)})
	room, own := socketRoom, uint64(2) // two more records: the enabled flag on and off
	if multicast {
		k.OtherDaemon(1)
		room, own = socketRoom/2, 0
	}
	body := strings.Repeat("x", 1000)
	const n = 5000 // five megabytes, into a queue of one and a socket of one
	for range n {
		// The consumer does nothing, so all room there will ever be is what the
		// reader makes.
		wait(t, "room in the socket's buffer", func() bool {
			used, _, _, _ := sock.Memory()
			return used+2000 < room
		})
		k.Emit(1300, body)
	}
	l.cancel()
	<-l.done
	got := takeAll(t, l.Queue())
	st := l.Stats()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if lost := k.Status().Lost; lost != 0 {
		t.Errorf("the kernel lost %d: the reader let its backlog fill", lost)
	}
	if have := uint64(len(got)) + st.Lost["queue"]; have != n+own {
		t.Errorf("%d taken and %d dropped make %d, want %d", len(got), st.Lost["queue"], have, n+own)
	}
	if st.Paused == 0 {
		t.Error("the socket's buffer was not used before dropping")
	}
}

// Where the administrator would rather stop the host than lose a record, a full
// queue stops the reader: what then becomes of records is the kernel's decision,
// and everything it kept comes through, at the end, too.
func TestFullQueueHolds(t *testing.T) {
	for _, c := range []struct {
		name    string
		failure uint32
		full    kernel.WhenFull
	}{{"failure mode 2", 2, kernel.FullAuto}, {"overflow_action", 1, kernel.FullWait}} {
		t.Run(c.name, func(t *testing.T) {
			k := fakekernel.New()
			k.SetStatus(func(s *kernel.Status) { s.Failure = c.failure })
			var said strings.Builder
			l := start(t, kernel.Config{
				QueueBytes: 1 << 20, Linger: -1, StatusEvery: time.Hour, Full: kernel.Full{When: c.full, Key: c.name}, Socket: k.Socket(me, 1<<20, false), Control: k.Conn(me),
				Logger: hclog.New(&hclog.LoggerOptions{Output: &said}),
			})
			if text := said.String(); !strings.Contains(text, "[WARN]") || !strings.Contains(text, "while the queue is full the kernel is not read") {
				t.Errorf("said at the start: %s", text)
			}
			const n = 5000
			body := strings.Repeat("x", 1000)
			for range n {
				k.Emit(1300, body)
			}
			lost := uint64(k.Status().Lost)
			if lost == 0 || l.Stats().Lost["queue"] != 0 {
				t.Errorf("the kernel lost %d, the reader dropped %d: it was to decide", lost, l.Stats().Lost["queue"])
			}
			l.cancel() // with both full: what is left is waited for
			got := takeAll(t, l.Queue())
			if err := <-l.done; err != nil {
				t.Error(err)
			}
			lost = uint64(k.Status().Lost)
			if dropped := l.Stats().Lost["queue"]; dropped != 0 || uint64(len(got))+lost != n+2 {
				t.Errorf("%d taken, %d lost by the kernel, %d dropped, of %d", len(got), lost, dropped, n+2)
			}
		})
	}
}

// A failure mode that changes while the reader holds is followed.
func TestHoldFollowsTheFailureMode(t *testing.T) {
	k := fakekernel.New()
	k.SetStatus(func(s *kernel.Status) { s.Failure = 2 })
	l := start(t, kernel.Config{QueueBytes: 1 << 20, Linger: -1, StatusEvery: 5 * time.Millisecond, Socket: k.Socket(me, 1<<20, false), Control: k.Conn(me)})
	for range 5000 {
		k.Emit(1300, strings.Repeat("x", 1000))
	}
	wait(t, "the reader holds", func() bool { return l.Stats().Paused > 3 })
	if n := l.Stats().Lost["queue"]; n != 0 {
		t.Errorf("%d dropped", n)
	}
	k.SetStatus(func(s *kernel.Status) { s.Failure = 1 })
	wait(t, "records are dropped", func() bool {
		k.Emit(1300, strings.Repeat("x", 1000))
		return l.Stats().Lost["queue"] > 0
	})
	l.cancel()
	takeAll(t, l.Queue())
	<-l.done
}

func TestMulticastOverruns(t *testing.T) {
	k := fakekernel.New()
	k.OtherDaemon(1)
	l := start(t, kernel.Config{Multicast: true, StatusEvery: time.Hour, Socket: k.Socket(me, 2000, true), Control: k.Conn(me)})
	k.EmitRaw(kernel.AppendMessage(nil, kernel.Message{Type: 1300, Payload: []byte("audit(1.000:1): first")}))
	wait(t, "the first record", func() bool { return l.Stats().Records == 1 })
	for range 100 {
		k.Emit(1300, strings.Repeat("y", 150))
	}
	wait(t, "every record taken in or counted", func() bool {
		s := l.Stats()
		return s.Overruns > 0 && s.Records+s.Lost["overrun"] == 101
	})
	l.stop(t)
	if s := k.Status(); s.PID != 1 || s.Enabled != 0 {
		t.Errorf("status %+v: multicast must change nothing", s)
	}
	k = fakekernel.New()
	k.Fail(kernel.MsgGet, unix.EPERM)
	l = start(t, kernel.Config{Multicast: true, Socket: k.Socket(me, 2000, true), Control: k.Conn(me)})
	k.Emit(1300, "read with CAP_AUDIT_READ alone")
	wait(t, "a record", func() bool { return l.Stats().Records == 1 })
	l.stop(t)
}

func TestQueue(t *testing.T) {
	q := kernel.NewQueue(1 << 20)
	text := []byte(strings.Repeat("z", 1000))
	put := 0
	for q.Put([]kernel.Record{{Type: 1300, Text: text}}) == 1 {
		put++
	}
	if want := q.Cap() / 1000; put < want*9/10 || put > want {
		t.Errorf("%d records of 1000 bytes found room in %d bytes", put, q.Cap())
	}
	if n, bytes := q.Len(); n != put || bytes != put*1000 {
		t.Errorf("length %d, %d bytes", n, bytes)
	}
	held := q.TryTake()
	if q.Put([]kernel.Record{{Text: text}}) != 0 {
		t.Error("a block that the consumer holds was used again")
	}
	q.Release(held)
	if q.Put([]kernel.Record{{Text: text}}) != 1 {
		t.Error("no room after a release")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		b, err := q.Take(ctx)
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("empty, cancelled: %v", err)
			}
			break
		}
		q.Release(b)
	}
	q.Close()
	if _, err := q.Take(context.Background()); !errors.Is(err, io.EOF) {
		t.Errorf("closed: %v, want io.EOF", err)
	}
	if q.Put([]kernel.Record{{Text: text}}) != 0 {
		t.Error("a closed queue took a record")
	}
}

func TestQueueAllocatesNothing(t *testing.T) {
	q := kernel.NewQueue(1 << 20)
	batch := make([]kernel.Record, 64)
	for i := range batch {
		batch[i] = kernel.Record{Type: 1300, Text: make([]byte, 300)}
	}
	n := testing.AllocsPerRun(1000, func() {
		q.Put(batch)
		q.Release(q.TryTake())
	})
	if n > 0 {
		t.Errorf("%v allocations a batch", n)
	}
}

func BenchmarkQueue(b *testing.B) {
	q := kernel.NewQueue(16 << 20)
	batch := make([]kernel.Record, 64)
	for i := range batch {
		batch[i] = kernel.Record{Type: 1300, Text: make([]byte, 300)}
	}
	b.ReportAllocs()
	for i := 0; i < b.N; i += 64 {
		q.Put(batch)
		if i%256 == 0 {
			q.Release(q.TryTake())
		}
	}
}
