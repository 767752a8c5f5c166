package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/pkg/wake"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// ErrOtherDaemon is returned when another live process is the registered audit
// daemon, at the start or because it took over.
var ErrOtherDaemon = errors.New("another audit daemon is registered with the kernel")

// EnableMode says what Open does with the kernel's enabled flag.
type EnableMode uint8

const (
	Enable   EnableMode = iota // as stock auditd does by default
	NoChange                   // leave it
	Disable
)

// ParseEnableMode reads the words of auditd's -s option.
func ParseEnableMode(s string) (EnableMode, error) {
	switch s {
	case "enable":
		return Enable, nil
	case "nochange":
		return NoChange, nil
	case "disable":
		return Disable, nil
	}
	return 0, fmt.Errorf("%q is none of enable, disable, nochange", s)
}

// Config configures Open. The zero value of a size or duration means its default.
type Config struct {
	// Multicast joins the read-only multicast group instead of registering as
	// the audit daemon: nothing of the kernel's is changed.
	Multicast     bool
	Enable        EnableMode
	ReceiveBuffer int           // bytes of the socket's receive buffer, default 64 MiB
	QueueBytes    int           // bytes of the queue, default 16 MiB
	Linger        time.Duration // how long records may collect after a batch at most, default 50 ms, negative: none
	StatusEvery   time.Duration // how often the kernel's counters are read, default 10 s
	// Full is the policy for a full queue. With Multicast the reader never waits.
	Full Full
	// Last is where an earlier run in the same boot ended: serials between it and the
	// first record of this run count as missing; nil: not known.
	Last *LastSerial
	// Before says how much of the kernel's lost counter earlier runs reported, for the
	// registered daemon: the difference is reported as CauseBefore; nil: not known.
	Before *LossesSaid

	Logger hclog.Logger
	Now    func() time.Time
	PID    int // ours, as the kernel sees it

	// For tests: a fake kernel's.
	Socket  Socket
	Control *Conn
}

func (c *Config) defaults() {
	if c.ReceiveBuffer <= 0 {
		c.ReceiveBuffer = 64 << 20
	}
	if c.QueueBytes <= 0 {
		c.QueueBytes = 16 << 20
	}
	if c.Linger == 0 {
		c.Linger = 50 * time.Millisecond
	}
	if c.StatusEvery <= 0 {
		c.StatusEvery = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.PID == 0 {
		c.PID = os.Getpid()
	}
}

const (
	batchSize = 64
	// slotSize holds the longest record there can be, with its header.
	slotSize = headerLen + MaxMessage + 14 // 9000, aligned
	// leastLinger is how long records may collect after a batch on a quiet host.
	leastLinger = 5 * time.Millisecond
	// fullPause is how long the reader leaves the socket alone while the queue
	// is full and the receive buffer still has room.
	fullPause = 10 * time.Millisecond
	// drainWait is how long a reader that holds waits at the end for those who read
	// the queue.
	drainWait = 5 * time.Second
)

// Stats are counters since Open, and the present fill of the buffers.
type Stats struct {
	Records      uint64
	Bytes        uint64
	Batches      uint64 // receive calls that brought something
	Overruns     uint64 // times the kernel said ENOBUFS
	Registered   uint64 // times we registered: more than one says we were thrown out
	Paused       uint64 // times the reader left the socket alone for a full queue
	Lost         map[string]uint64
	SerialGaps   uint64 // informative: see SerialGaps
	QueueRecords int
	QueueBytes   int
	QueueCap     int
	SocketUsed   int // bytes of the receive buffer in use, as the kernel accounts them
	SocketLimit  int
	Kernel       Status // as last read
}

// Listener receives the kernel's records and puts them into its Queue.
//
// Three goroutines work on it while Run runs: the reader (read, receive, control), the
// watcher (watch, look, account), and the caller of Run, who ends both. Any goroutine
// may call the exported methods besides. What they share:
//   - slots and batch belong to the reader, held and outside to the watcher. Before Run,
//     Open uses them, and after the reader has ended, drainSocket does: never two at once.
//   - Everything below mu is guarded by it. book, gaps and queue have locks of their own.
//   - The reader takes no lock that is held during a request to the kernel: it must
//     empty the socket even when an answer is late. Its wishes go to the watcher by nudge.
//   - regMu makes registering and handing back exclude each other: once leaving is set,
//     no registration follows.
type Listener struct {
	cfg   Config
	sock  Socket
	ctl   *Conn
	queue *Queue
	book  lossBook
	gaps  serials

	slots    []Datagram // the reader's; records alias them until they are in the queue
	batch    []Record   // the reader's
	acks     chan error // answers to requests sent on sock, from the reader to register
	ackSeq   atomic.Uint32
	stop     atomic.Bool // ends the reader, with sock.Wake
	nudge    wake.Signal // asks the watcher to read the kernel's status now
	running  sync.WaitGroup
	begun    bool        // Run was called
	blind    bool        // this process may not read the kernel's status; not changed after Open
	found    Status      // the kernel's status before Open changed it; not changed after Open
	switched bool        // Open switched auditing on; not changed after Open
	held     uint64      // the value of paused when the watcher last read the status; the watcher's
	outside  bool        // the kernel has dropped the registration, and that was logged; the watcher's
	holds    atomic.Bool // the reader stops while the queue is full
	holding  atomic.Bool // the reader has stopped, now

	// regMu is held while registering and while handing the registration back, so that
	// one that was handed back is not renewed.
	regMu   sync.Mutex
	leaving bool // guarded by regMu

	records, bytes, batches, overruns, registered, paused, turned atomic.Uint64

	mu           sync.Mutex // guards what follows
	status       Status
	drops        uint32 // the socket's counter as last seen
	used, limit  int
	fatal        error
	closed       bool
	isRegistered bool
	enabledWas   uint32
	enabledSet   bool // we changed it
	full         Full
	saidFull     string // of it, as last logged
}

// LossesSaid says up to which value of the kernel's lost counter losses were reported.
type LossesSaid struct {
	Counter uint32
	At      time.Time // when they were reported; the time of the boot if never
}

// Open opens the sockets and, unless cfg.Multicast is set, registers as the audit daemon
// (ErrOtherDaemon: another live process is). From then on records collect in the receive
// buffer; Run must follow soon. The caller must Close, also without a Run. A failed Open
// has undone what it changed.
func Open(cfg Config) (_ *Listener, err error) {
	cfg.defaults()
	l := &Listener{
		cfg: cfg, sock: cfg.Socket, ctl: cfg.Control, queue: NewQueue(cfg.QueueBytes),
		acks: make(chan error, 1), nudge: wake.New(), full: cfg.Full,
		slots: make([]Datagram, batchSize), batch: make([]Record, 0, batchSize),
	}
	arena := make([]byte, batchSize*slotSize)
	for i := range l.slots {
		l.slots[i].Buf = arena[i*slotSize : (i+1)*slotSize : (i+1)*slotSize]
	}
	l.gaps.begin(cfg.Now())
	if cfg.Last != nil {
		l.gaps.resume(*cfg.Last)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.release())
		}
	}()
	if l.sock == nil {
		sc := SocketConfig{ReceiveBuffer: cfg.ReceiveBuffer}
		if cfg.Multicast {
			sc.Group = multicastGroup
		}
		if l.sock, err = NewSocket(sc); err != nil {
			return nil, err
		}
		if got, forced := l.sock.Granted(); !forced && got < cfg.ReceiveBuffer {
			cfg.Logger.Warn("the receive buffer is smaller than asked for, a burst may overrun it: it needs CAP_NET_ADMIN, or a larger net.core.rmem_max",
				"asked", cfg.ReceiveBuffer, "got", got)
		}
	}
	if l.ctl == nil {
		if l.ctl, err = Dial(); err != nil {
			return nil, err
		}
	}
	if l.status, err = l.ctl.Status(); err != nil {
		if cfg.Multicast && errors.Is(err, unix.EPERM) {
			// Reading the group needs only CAP_AUDIT_READ.
			cfg.Logger.Warn("the kernel's counters can't be read, losses inside it will not be seen", "error", err)
			l.blind = true
			return l, nil
		}
		return nil, err
	}
	l.found = l.status
	if cfg.Multicast {
		return l, nil
	}
	l.setHold()
	if err := l.register(); err != nil {
		return nil, err
	}
	if cfg.Before != nil {
		l.book.addSince(CauseBefore, uint64(lostDelta(cfg.Before.Counter, l.status.Lost)), cfg.Before.At, cfg.Now())
	}
	if err := l.setEnabled(); err != nil {
		return nil, errors.Join(err, l.unregister())
	}
	if l.status.BacklogLimit != 0 && l.status.BacklogLimit < 1024 {
		cfg.Logger.Info("the kernel's backlog_limit is small, audited programs wait when a burst exceeds it: consider auditctl -b 8192",
			"backlog_limit", l.status.BacklogLimit)
	}
	return l, nil
}

// Queue returns the queue that the reader fills; the caller consumes it.
func (l *Listener) Queue() *Queue { return l.queue }

// TakeLosses returns the losses since the last call, and the value of the kernel's lost
// counter up to which all calls so far have returned them. Any goroutine may call it.
func (l *Listener) TakeLosses() (losses []Loss, counter uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book.take(), l.status.Lost
}

// Found returns the kernel's status as it was before Open changed anything, and whether
// Open switched auditing on; ok is false where it may not be read.
func (l *Listener) Found() (s Status, switchedOn, ok bool) {
	return l.found, l.switched, !l.blind
}

// TakeSerialGaps returns the serials found missing since the last call. The watcher finds
// new ones once per Config.StatusEvery. Any goroutine may call it.
func (l *Listener) TakeSerialGaps() SerialGaps { return l.gaps.take() }

// Control returns the listener's control connection, which Close closes; the owner of the
// Listener may send requests on it.
func (l *Listener) Control() *Conn { return l.ctl }

// Registered reports whether this process is the host's audit daemon.
func (l *Listener) Registered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.isRegistered
}

// otherDaemon says who is registered and what can be done about it.
func (l *Listener) otherDaemon() error {
	s, err := l.ctl.Status()
	if err != nil {
		return errors.Join(ErrOtherDaemon, err)
	}
	comm := "?"
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.PID)); err == nil {
		comm = strings.TrimSpace(string(b))
	}
	return fmt.Errorf("%w: pid %d (%s): stop it (service auditd stop, or auditctl --signal stop), or run beside it with --source multicast, or as its plugin with --source stdin",
		ErrOtherDaemon, s.PID, comm)
}

// locked is the enabled flag of a configuration that stays as it is until the boot.
const locked = 2

func (l *Listener) setEnabled() error {
	want := uint32(0)
	switch l.cfg.Enable {
	case NoChange:
		return nil
	case Enable:
		want = 1
	case Disable:
	}
	if l.status.Enabled == want || l.status.Enabled == locked {
		return nil
	}
	if err := l.ctl.Set(Status{Mask: MaskEnabled, Enabled: want}); err != nil {
		return err
	}
	l.enabledWas, l.enabledSet = l.status.Enabled, true
	l.status.Enabled, l.switched = want, want == 1
	return nil
}

// Run receives records until ctx ends or another process takes over the registration
// (ErrOtherDaemon). It is called once. It closes the queue when no more records will
// come. To end well: cancel ctx; wait for Run, which hands the registration back and
// receives what is left, while the queue is still consumed; then Close.
func (l *Listener) Run(ctx context.Context) error {
	l.begun = true
	l.running.Add(2)
	stopWake := context.AfterFunc(ctx, func() {
		defer l.running.Done()
		l.handBack()
		l.stop.Store(true)
		l.sock.Wake()
	})
	watchCtx, cancel := context.WithCancel(ctx)
	go func() {
		defer l.running.Done()
		l.watch(watchCtx)
	}()
	err := l.read()
	cancel()
	if stopWake() {
		// The reader ended by itself.
		l.handBack()
		l.running.Done()
	}
	l.running.Wait()
	if err == nil {
		l.mu.Lock()
		err = l.fatal
		l.mu.Unlock()
	}
	if err == nil {
		err = l.drainSocket()
	}
	l.gaps.end(l.cfg.Now())
	l.queue.Close()
	return err
}

// Turns counts the turns of the reader's loop: where nothing comes, the watcher wakes it once
// per Config.StatusEvery.
func (l *Listener) Turns() uint64 { return l.turned.Load() }

// read is the reader's loop.
func (l *Listener) read() error {
	var (
		rest time.Duration
		last time.Time
	)
	for !l.stop.Load() {
		l.turned.Add(1)
		if !l.queue.hasRoom(batchSize * slotSize) {
			if err := l.overflow(); err != nil {
				return err
			}
			continue
		}
		l.resumed()
		n, err := l.receive()
		if err != nil {
			return err
		}
		switch {
		case n == batchSize:
		case n > 0 && l.cfg.Linger > 0:
			// Let some records collect: a wakeup, here and in all that follows, costs
			// more than ten records. They rest in the receive buffer, where there is
			// room for ten thousands. What a quiet host does goes on at once.
			now := l.cfg.Now()
			if gap := now.Sub(last); gap >= 0 && gap < 2*l.cfg.Linger {
				rest = min(2*rest, l.cfg.Linger)
			} else {
				rest = min(leastLinger, l.cfg.Linger)
			}
			last = now
			l.sock.Pause(rest)
		case n == 0:
			if err := l.sock.Wait(-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// overflow is the policy for a full queue: leave records in the receive buffer
// while it has room, then take them out and drop them, so that the kernel's own
// backlog, behind which audited programs wait, does not fill. Where the
// administrator would rather stop the host than lose a record, they are left.
func (l *Listener) overflow() error {
	if l.holds.Load() {
		l.holding.Store(true)
		l.paused.Add(1)
		l.sock.Pause(fullPause)
		return nil
	}
	l.resumed()
	used, limit, _, err := l.sock.Memory()
	if err != nil {
		return err
	}
	most := limit / 4 * 3
	if l.cfg.Multicast {
		// While a listener's buffer is more than half full, the kernel yields the processor after each message
		// (netlink_broadcast), and on a busy host that stalls the daemon and audited programs.
		most = limit / 8 * 3
	}
	if used < most {
		l.paused.Add(1)
		pause := fullPause
		if used > most/3*2 {
			pause = time.Millisecond
		}
		l.sock.Pause(pause)
		return nil
	}
	_, err = l.receive()
	return err
}

// receive moves one batch from the socket into the queue and returns how many messages it
// had. Queue.Put copies the texts, so slots are free again when it returns. Only the
// reader calls it, or who stands in for the reader before and after its loop.
func (l *Listener) receive() (int, error) {
	n, err := l.sock.Recv(l.slots)
	switch {
	case err == nil:
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return 0, nil
	case errors.Is(err, unix.ENOBUFS):
		l.overruns.Add(1)
		l.nudge.Set()
		return batchSize, nil // more may be there: try again at once
	default:
		return 0, &OpError{Op: "receive", Err: err}
	}
	l.batch = l.batch[:0]
	var bytes uint64
	for i := range l.slots[:n] {
		d := &l.slots[i]
		if d.Foreign {
			l.book.add(CauseMalformed, 1, l.cfg.Now())
			continue
		}
		m, err := ParseMessage(d.Buf[:d.N])
		if err != nil {
			l.book.add(CauseMalformed, 1, l.cfg.Now())
			continue
		}
		if !IsRecord(m.Type) {
			l.control(m)
			continue
		}
		if d.Truncated {
			l.book.add(CauseTruncated, 1, l.cfg.Now())
		}
		text := trimEnd(m.Payload)
		bytes += uint64(len(text))
		l.batch = append(l.batch, Record{Type: m.Type, Text: text})
	}
	if len(l.batch) > 0 {
		// What finds no room in the queue was seen all the same.
		l.gaps.note(l.batch, l.cfg.Now())
	}
	if put := l.queue.Put(l.batch); put < len(l.batch) {
		l.book.add(CauseQueue, uint64(len(l.batch)-put), l.cfg.Now())
	}
	l.records.Add(uint64(len(l.batch)))
	l.bytes.Add(bytes)
	l.batches.Add(1)
	return n, nil
}

// control handles what is no record: the answer to register, and the message by
// which the kernel tries whether we still live when another wants to register.
func (l *Listener) control(m Message) {
	switch m.Type {
	case unix.NLMSG_ERROR:
		if m.Seq == l.ackSeq.Load() {
			select {
			case l.acks <- ackErrno(m.Payload):
			default:
			}
		}
	case MsgReplace:
		l.nudge.Set()
	}
}

// drainSocket receives what is left in the receive buffer. With FullWait it waits for room
// in the queue, but only for a limited time, because the program is ending.
func (l *Listener) drainSocket() error {
	for end := time.Now().Add(drainWait); ; {
		for l.holds.Load() && !l.queue.hasRoom(batchSize*slotSize) && time.Now().Before(end) {
			select {
			case <-l.queue.space:
			case <-time.After(fullPause):
			}
		}
		n, err := l.receive()
		if err != nil || n == 0 {
			return err
		}
	}
}
