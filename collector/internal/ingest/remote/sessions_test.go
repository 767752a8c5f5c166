package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/poll"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/metrics/metricstest"
	"github.com/auditfleet/auditfleet/proto/remote"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	need.Parallel(8) // they wait for peers
	goleak.VerifyTestMain(m)
}

// fakeJournal stores in memory, from a committer goroutine, as the real one does.
type fakeJournal struct {
	queue chan func()
	wg    sync.WaitGroup

	mu      sync.Mutex
	raws    []string                     // guarded by mu
	peers   []string                     // guarded by mu: Host of each record
	bytes   [][]byte                     // guarded by mu: the slices as they were handed over
	verdict func(b *journal.Batch) error // guarded by mu; nil stores everything
	refuse  error                        // guarded by mu: Submit itself fails
	hold    chan struct{}                // guarded by mu: when not nil, commits wait for it
	stuck   chan struct{}                // guarded by mu: when not nil, Commit waits for it
	busy    atomic.Bool                  // heavy sessions wait
	full    func() bool                  // guarded by mu: whether a deferred batch is refused; nil: never
}

func newJournal(t *testing.T) *fakeJournal {
	j := &fakeJournal{queue: make(chan func(), 1000)}
	j.wg.Add(1)
	go func() {
		defer j.wg.Done()
		for f := range j.queue {
			f()
		}
	}()
	t.Cleanup(func() { close(j.queue); j.wg.Wait() })
	return j
}

func (j *fakeJournal) Submit(ctx context.Context, b *journal.Batch, done func(error)) error {
	j.mu.Lock()
	refuse := j.refuse
	if refuse == nil && b.Deferred && j.full != nil && j.full() {
		refuse = journal.ErrBusy
	}
	j.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	commit := func() {
		j.mu.Lock()
		hold := j.hold
		j.mu.Unlock()
		if hold != nil {
			<-hold
		}
		j.mu.Lock()
		var err error
		if j.verdict != nil {
			err = j.verdict(b)
		}
		if err == nil {
			for _, r := range b.Records {
				j.raws = append(j.raws, string(r.Raw))
				j.peers = append(j.peers, b.Sender.Node)
				j.bytes = append(j.bytes, r.Raw)
			}
		}
		j.mu.Unlock()
		done(err)
	}
	select {
	case j.queue <- commit:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (j *fakeJournal) Commit(bool) {
	j.mu.Lock()
	stuck := j.stuck
	j.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
}

func (j *fakeJournal) Busy() bool { return j.busy.Load() }

func (j *fakeJournal) stored() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.raws...)
}

func (j *fakeJournal) set(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f()
}

// testConn stands in for listen.Conn: what Received and Busy were told is counted.
type testConn struct {
	sock       *poll.Conn
	peer       netip.AddrPort
	cause      atomic.Pointer[string]
	unfinished atomic.Bool
	busy       atomic.Bool
}

func (c *testConn) Shut(cause string) {
	c.cause.CompareAndSwap(nil, &cause)
	c.sock.Shutdown()
}

func (c *testConn) Cause() string {
	if p := c.cause.Load(); p != nil {
		return *p
	}
	return ""
}
func (c *testConn) Peer() netip.AddrPort        { return c.peer }
func (c *testConn) Sock() *poll.Conn            { return c.sock }
func (c *testConn) Received(_, unfinished bool) { c.unfinished.Store(unfinished) }
func (c *testConn) Busy(b bool)                 { c.busy.Store(b) }

// fakeDisk is a disk with room, unless it is told otherwise.
type fakeDisk struct {
	low     atomic.Bool
	refuses atomic.Pointer[error]
}

func (d *fakeDisk) Admit(int64) error {
	if err := d.refuses.Load(); err != nil {
		return *err
	}
	return nil
}
func (d *fakeDisk) IsLow() bool   { return d.low.Load() }
func (d *fakeDisk) Outcome(error) {}

type fixture struct {
	t    testing.TB
	all  *Sessions
	in   *intake.Intake
	disk fakeDisk
	j    *fakeJournal
	ln   *net.TCPListener
	reg  *metrics.Registry
	log  need.Buffer
	wg   sync.WaitGroup
}

// settings are the sessions' and the intake's.
type settings struct {
	Config
	MaxTotal int64
}

func setup(t *testing.T, change func(*settings)) *fixture {
	t.Helper()
	f := &fixture{t: t, j: newJournal(t), reg: metrics.New()}
	log := hclog.New(&hclog.LoggerOptions{Output: &f.log})
	cfg := settings{Config: Config{Log: log, Metrics: metrics.NewRemote(f.reg)}}
	if change != nil {
		change(&cfg)
	}
	f.in = intake.Open(intake.Config{Journal: f.j, Space: &f.disk, Log: log, Metrics: metrics.NewIntake(f.reg), MaxInFlight: cfg.MaxTotal})
	cfg.Intake = f.in
	var err error
	if f.all, err = Open(cfg.Config); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.ln = ln.(*net.TCPListener)
	t.Cleanup(func() {
		f.ln.Close()
		f.wg.Wait()
		if err := errors.Join(f.all.Close(), f.in.Close()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return f
}

// client is a sender, and the session's side of it.
type client struct {
	*net.TCPConn
	t    testing.TB
	side *testConn
	done chan struct{} // Serve returned
	buf  []byte
}

func (f *fixture) dial() *client {
	f.t.Helper()
	c, err := net.Dial("tcp", f.ln.Addr().String())
	if err != nil {
		f.t.Fatal(err)
	}
	s, err := f.ln.AcceptTCP()
	if err != nil {
		f.t.Fatal(err)
	}
	peer := s.RemoteAddr().(*net.TCPAddr).AddrPort()
	sock, err := poll.Detach(s)
	if err != nil {
		f.t.Fatal(err)
	}
	cl := &client{TCPConn: c.(*net.TCPConn), t: f.t, side: &testConn{sock: sock, peer: peer}, done: make(chan struct{})}
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		f.all.Serve(cl.side, journal.Sender{Addr: cl.side.Peer(), Transport: event.TransportTCP})
		cl.side.sock.Close()
		close(cl.done)
	}()
	f.t.Cleanup(func() { c.Close() })
	return cl
}

func (c *client) send(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// reply reads one reply, or says "EOF".
func (c *client) reply() string {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		f, n, err := new(remote.Decoder).Decode(c.buf)
		if err != nil {
			c.t.Fatalf("the collector's reply: %v", err)
		}
		if n > 0 {
			out := fmt.Sprintf("%v %d", f.Type, f.Seq)
			if len(f.Payload) > 0 {
				out += " " + string(f.Payload)
			}
			c.buf = c.buf[n:]
			return out
		}
		part := make([]byte, 64<<10)
		m, err := c.Read(part)
		if m == 0 {
			if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
				return "EOF"
			}
			c.t.Fatalf("waiting for a reply: %v", err)
		}
		c.buf = append(c.buf, part[:m]...)
	}
}

func (c *client) want(replies ...string) {
	c.t.Helper()
	for i, want := range replies {
		if got := c.reply(); got != want {
			c.t.Fatalf("reply %d is %q, want %q", i, got, want)
		}
	}
}

func message(seq uint32, text string) []byte {
	return remote.Append(nil, remote.Message, seq, []byte(text))
}

func text(i int) string {
	return fmt.Sprintf("node=h type=USER msg=audit(1700000000.%03d:%d): n=%d %s", i%1000, i, i, strings.Repeat("x", i*7%300))
}

var eventually = need.Wait

// value is the sum of a metric's series.
func (f *fixture) value(name string) float64 {
	f.t.Helper()
	return metricstest.Value(f.t, f.reg, name, "")
}

func TestStopAndWait(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c := f.dial()
	c.send(message(7, "one"))
	c.want("ACK 7")
	c.send(remote.Append(nil, remote.Heartbeat, 8, nil))
	c.want("ACK 8")
	c.send(message(9, "two"))
	c.want("ACK 9")
	c.CloseWrite()
	c.want("EOF")
	<-c.done
	if diff := cmp.Diff([]string{"one", "two"}, f.j.stored()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	if c.side.Cause() != metrics.ClosedByPeer {
		t.Errorf("closed because of %q", c.side.Cause())
	}
	if f.j.peers[0] != "127.0.0.1" {
		t.Errorf("the host of a record without node= is %q, want the peer's address", f.j.peers[0])
	}
	if c.side.busy.Load() {
		t.Error("still busy at the end")
	}
	if v := f.value("auditfleet_collector_inflight_bytes"); v != 0 {
		t.Errorf("%v bytes in flight at the end", v)
	}
}

// A window of records and a heartbeat among them, in pieces cut anywhere: each
// gets its reply, in order.
func TestWindowCutAnywhere(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 1))
	f := setup(t, func(c *settings) { c.MaxInFlight = 20 << 10 })
	c := f.dial()
	const n = 3000
	var stream []byte
	var want, replies []string
	for i := range n {
		if i%97 == 0 {
			stream = remote.Append(stream, remote.Heartbeat, uint32(1e6+i), nil)
			replies = append(replies, fmt.Sprintf("ACK %d", 1000000+i))
		}
		if i%131 == 0 { // nothing to store, a reply all the same
			stream = remote.Append(stream, remote.Message, uint32(2e6+i), nil)
			replies = append(replies, fmt.Sprintf("ACK %d", 2000000+i))
		}
		stream = append(stream, message(uint32(i), text(i))...)
		want = append(want, text(i))
		replies = append(replies, fmt.Sprintf("ACK %d", i))
	}
	go func() {
		for len(stream) > 0 {
			k := min(len(stream), 1+rnd.IntN(3000))
			c.Write(stream[:k])
			stream = stream[k:]
		}
	}()
	c.want(replies...)
	if diff := cmp.Diff(want, f.j.stored()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// What was handed to the journal stays as it was while more is read.
func TestHandedOverBytesAreNotTouched(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c := f.dial()
	for i := range 200 {
		c.send(message(uint32(i), text(i)))
		c.want(fmt.Sprintf("ACK %d", i))
	}
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	for i, b := range f.j.bytes {
		if string(b) != text(i) {
			t.Fatalf("record %d became %q", i, b)
		}
		if cap(b) != len(b) {
			t.Fatalf("record %d has room for %d bytes more: an append would overwrite the next one", i, cap(b)-len(b))
		}
	}
}

func TestLinesAndMessagesMixed(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c := f.dial()
	var stream []byte
	stream = append(stream, "first line\n"...)
	stream = append(stream, message(1, "a message")...)
	stream = append(stream, "\nsecond line\nthird line\n"...)
	stream = append(stream, message(2, "another")...)
	c.send(stream)
	c.want("ACK 1", "ACK 2")
	want := []string{"first line", "a message", "second line", "third line", "another"}
	if diff := cmp.Diff(want, f.j.stored()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	if v := f.value("auditfleet_collector_empty_records_total"); v != 1 {
		t.Errorf("%v empty records counted, want 1", v)
	}
}

// A stock sender's records end in a newline, which is not stored.
func TestNewlineAtTheEnd(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c := f.dial()
	c.send(append(append(message(1, "stock's\n"), message(2, "ours")...), message(3, "\n")...))
	c.want("ACK 1", "ACK 2", "ACK 3")
	if diff := cmp.Diff([]string{"stock's", "ours"}, f.j.stored()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// The stock server takes an unknown type for a record and acknowledges it.
func TestUnknownTypeIsARecord(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c := f.dial()
	c.send(remote.Append(nil, 5, 6, []byte("zz")))
	c.want("ACK 6")
	if diff := cmp.Diff([]string{"zz"}, f.j.stored()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// Whatever is wrong with a stream: what came whole before it is stored and
// acknowledged, the log says who, where and why, and others go on.
func TestMalformed(t *testing.T) {
	t.Parallel()
	version := message(3, "x")
	version[4] = 1
	long := message(3, "")
	long[10], long[11] = 0x0b, 0x23 // 8971
	for name, tc := range map[string]struct {
		bytes []byte
		log   string
	}{
		"version":      {version, "version"},
		"length":       {append(long, make([]byte, 8971)...), "8971"},
		"line":         {bytes.Repeat([]byte("y"), 9000), "line too long"},
		"binary":       {append([]byte{0xfe, 0, 0, 0xfe}, make([]byte, 9000)...), "line too long"},
		"type":         {remote.Append(nil, remote.Ack, 3, nil), "type of a reply"},
		"one past end": {bytes.Repeat([]byte("y"), remote.MaxLength+1), "line too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, nil)
			bystander := f.dial()
			bystander.send(message(1, "mine"))
			bystander.want("ACK 1")
			c := f.dial()
			c.send(append(append(message(1, "before"), message(2, "this")...), tc.bytes...))
			c.want("ACK 1", "ACK 2", "EOF")
			<-c.done
			if c.side.Cause() != metrics.ClosedMalformed {
				t.Errorf("closed because of %q", c.side.Cause())
			}
			log := f.log.String()
			for _, want := range []string{tc.log, "offset=42", "peer=" + c.LocalAddr().String()} {
				if !strings.Contains(log, want) {
					t.Errorf("the log does not say %q:\n%s", want, log)
				}
			}
			if v := f.value("auditfleet_collector_malformed_total"); v != 1 {
				t.Errorf("%v malformed streams counted, want 1", v)
			}
			bystander.send(message(2, "too"))
			bystander.want("ACK 2")
			if diff := cmp.Diff([]string{"mine", "before", "this", "too"}, f.j.stored()); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
		})
	}
}

// Who speaks TLS to a port for clear text is closed before a line of it is stored, and hears
// nothing that could be taken for an answer; the log says which port is meant.
func TestTLSToClearText(t *testing.T) {
	t.Parallel()
	for _, hello := range [][]byte{{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, '\n', 3, 3, '\n'}, {22, 3, 3, 0, 1, '\n'}} {
		f := setup(t, nil)
		c := f.dial()
		c.send(hello)
		c.want("EOF")
		<-c.done
		if log := f.log.String(); c.side.Cause() != metrics.ClosedMalformed || !strings.Contains(log, "listen_tls") || len(f.j.stored()) != 0 {
			t.Errorf("closed because of %q, stored %q\n%s", c.side.Cause(), f.j.stored(), log)
		}
		// Behind a record it is a line like any other.
		c = f.dial()
		c.send(append(message(1, "first"), hello...))
		c.want("ACK 1")
	}
}

func TestTruncated(t *testing.T) {
	t.Parallel()
	for name, rest := range map[string][]byte{
		"frame": message(2, "this is cut")[:20],
		"line":  []byte("no newline"),
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t, nil)
			c := f.dial()
			c.send(append(message(1, "whole"), rest...))
			c.want("ACK 1")
			eventually(t, "the listener is told of the unfinished "+name, c.side.unfinished.Load)
			c.Close()
			<-c.done
			if diff := cmp.Diff([]string{"whole"}, f.j.stored()); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			if v := f.value("auditfleet_collector_truncated_total"); v != 1 {
				t.Errorf("%v truncated streams counted, want 1", v)
			}
			if log := f.log.String(); !strings.Contains(log, "within a "+name) || !strings.Contains(log, "offset=21") {
				t.Errorf("the log does not say what and where:\n%s", log)
			}
		})
	}
}

func TestStorageErrors(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c := f.dial()
	fail := func(err error) { f.j.set(func() { f.j.verdict = func(*journal.Batch) error { return err } }) }
	fail(fmt.Errorf("append: %w", syscall.ENOSPC))
	c.send(append(message(1, "full"), remote.Append(nil, remote.Heartbeat, 2, nil)...))
	c.want("DISKFULL 1 disk full", "ACK 2")
	fail(errors.New("sync failed"))
	c.send(message(3, "broken"))
	c.want("DISKERROR 3 disk write error")
	f.j.set(func() { f.j.refuse = errors.New("closed") })
	c.send(message(4, "refused"))
	c.want("DISKERROR 4 disk write error")
	f.j.set(func() { f.j.refuse, f.j.verdict = nil, nil })
	c.send(message(5, "good"))
	c.want("ACK 5")
	if diff := cmp.Diff([]string{"good"}, f.j.stored()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	if v := f.value("auditfleet_collector_rejected_records_total"); v != 3 {
		t.Errorf("%v rejected records counted, want 3", v)
	}
}

// A batch that the journal refuses at once gets its reply after those before it.
func TestRepliesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	hold := make(chan struct{})
	f.j.set(func() { f.j.hold = hold })
	c := f.dial()
	c.send(message(1, "slow"))
	eventually(t, "the first is on its way", func() bool { return f.value("auditfleet_collector_inflight_bytes") > 0 })
	f.j.set(func() { f.j.refuse = errors.New("no") })
	c.send(message(2, "refused"))
	c.send(remote.Append(nil, remote.Heartbeat, 3, nil))
	eventually(t, "all three wait", func() bool { return f.value("auditfleet_collector_inflight_bytes") == 20+23+16 })
	close(hold)
	c.want("ACK 1", "DISKERROR 2 disk write error", "ACK 3")
}

func TestDiskLow(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	f.disk.low.Store(true)
	c := f.dial()
	c.send(message(1, "stored"))
	c.want("DISKLOW 1")
	if diff := cmp.Diff([]string{"stored"}, f.j.stored()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

func TestBytesInFlightAreBounded(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	f := setup(t, func(c *settings) { c.MaxInFlight = limit })
	hold := make(chan struct{})
	f.j.set(func() { f.j.hold = hold })
	c := f.dial()
	const n = 30000
	body := strings.Repeat("z", 200)
	go func() {
		var b []byte
		for i := range n {
			b = remote.Append(b[:0], remote.Message, uint32(i), []byte(body))
			c.Write(b)
		}
	}()
	eventually(t, "the limit is reached", func() bool { return f.value("auditfleet_collector_inflight_bytes") >= limit })
	time.Sleep(50 * time.Millisecond)
	if v := f.value("auditfleet_collector_inflight_bytes"); v > limit+readSize {
		t.Errorf("%v bytes in flight, the limit is %d and one read", v, limit)
	}
	close(hold)
	for i := range n {
		if got, want := c.reply(), fmt.Sprintf("ACK %d", i); got != want {
			t.Fatalf("reply %q, want %q", got, want)
		}
	}
}

// A sender that takes no replies is closed; its records are stored, and nobody
// else waits for it.
func TestSenderThatReadsNothing(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *settings) { c.WriteTimeout = 300 * time.Millisecond })
	c := f.dial()
	c.side.sock.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<10) })
	c.SetReadBuffer(4 << 10)
	var beats []byte
	for i := range 4096 {
		beats = remote.Append(beats, remote.Heartbeat, uint32(i), nil)
	}
	go func() {
		for {
			if _, err := c.Write(beats); err != nil {
				return
			}
		}
	}()
	other := f.dial()
	for i := range uint32(100) {
		other.send(message(i, "prompt"))
		other.want(fmt.Sprintf("ACK %d", i))
	}
	<-c.done
	if c.side.Cause() != metrics.ClosedSlow {
		t.Errorf("closed because of %q, want %q", c.side.Cause(), metrics.ClosedSlow)
	}
}

func TestEnding(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	hold := make(chan struct{})
	f.j.set(func() { f.j.hold = hold })
	busy, quiet := f.dial(), f.dial()
	busy.send(message(1, "in flight"))
	eventually(t, "it is on its way", func() bool { return f.value("auditfleet_collector_inflight_bytes") > 0 })
	f.all.End()
	quiet.want("ENDING 0", "EOF")
	close(hold)
	busy.want("ACK 1", "ENDING 0", "EOF")
	<-busy.done
	<-quiet.done
	if busy.side.Cause() != metrics.ClosedShutdown {
		t.Errorf("closed because of %q", busy.side.Cause())
	}
	late := f.dial()
	late.want("ENDING 0", "EOF")
}

func TestAbortDoesNotAcknowledge(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	hold := make(chan struct{})
	f.j.set(func() { f.j.hold = hold })
	c := f.dial()
	c.send(message(1, "never stored"))
	eventually(t, "it is on its way", func() bool { return f.value("auditfleet_collector_inflight_bytes") > 0 })
	f.all.Abort()
	c.side.Shut(metrics.ClosedShutdown)
	c.want("EOF")
	<-c.done
	close(hold)
}

func TestIdleSessionHoldsLittle(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c := f.dial()
	var burst []byte
	for i := range 2000 {
		burst = append(burst, message(uint32(i), text(i))...)
	}
	c.send(burst)
	for i := range 2000 {
		c.want(fmt.Sprintf("ACK %d", i))
	}
	held := func() (n int) {
		f.all.mu.Lock()
		defer f.all.mu.Unlock()
		for s := range f.all.sessions {
			s.mu.Lock()
			if s.writing {
				n = 1 << 30 // the last reply is out, its buffer still in use
			} else {
				n += cap(s.unfinished) + cap(s.out) + 8*cap(s.queue)
			}
			s.mu.Unlock()
		}
		return n
	}
	eventually(t, "it writes no more", func() bool { return held() < 1<<30 })
	if n := held(); n > 8<<10 {
		t.Errorf("an idle session holds %d bytes", n)
	}
}
