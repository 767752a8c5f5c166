package server

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/listen"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

const (
	// ownQueue bounds our own records that wait for the journal.
	ownQueue = 16384
	// refusalsPerSecond bounds how many refusals are stored: whoever knocks in a
	// loop must not fill the disk. All are counted.
	refusalsPerSecond = 50
	// unset is how audit records say that there is no login uid or session.
	unset = ^uint32(0)
)

// ownRecords stores the collector's own events under its own node, in the words
// of the stock daemon.
type ownRecords struct {
	j       *journal.Journal
	node    string
	now     func() time.Time
	log     hclog.Logger
	metrics *metrics.OwnRecords
	// refusing says that senders' records are not taken: then no records about
	// their connections are stored, either, of which there may be any number.
	refusing func() bool
	wg       sync.WaitGroup

	mu         sync.Mutex
	serial     uint64      // guarded by mu
	closed     bool        // guarded by mu
	began      bool        // guarded by mu: DAEMON_START is stored, so DAEMON_END will be
	queue      chan string // sent to under mu
	window     time.Time   // guarded by mu: the second in which refusals are counted
	refused    int         // guarded by mu: in that second
	omitted    int         // guarded by mu: refusals not stored since the last one stored
	dropLogged time.Time   // guarded by mu
	ctx        context.Context
	cancel     context.CancelFunc
}

// openOwn makes one whose refusing is the caller's to set.
func openOwn(j *journal.Journal, node string, now func() time.Time, log hclog.Logger, reg *metrics.Registry) *ownRecords {
	o := &ownRecords{j: j, node: node, now: now, log: log, queue: make(chan string, ownQueue)}
	o.metrics = metrics.NewOwnRecords(reg)
	// Serials need not be consecutive over restarts, only unlikely to repeat.
	o.serial = uint64(now().UnixMilli()) % 1000000
	o.ctx, o.cancel = context.WithCancel(context.Background())
	o.wg.Add(1)
	go o.run()
	return o
}

// run submits what is queued, all there is at once.
func (o *ownRecords) run() {
	defer o.wg.Done()
	for first := range o.queue {
		b := &journal.Batch{Sender: journal.Sender{Node: o.node, Transport: event.TransportOwn}, Received: o.now(), Records: []journal.Record{{Raw: []byte(first)}}}
		for len(b.Records) < ownQueue && len(o.queue) > 0 {
			next, ok := <-o.queue
			if !ok {
				break
			}
			b.Records = append(b.Records, journal.Record{Raw: []byte(next)})
		}
		n := len(b.Records)
		stored := make(chan error, 1)
		err := o.j.Submit(o.ctx, b, func(err error) { stored <- err })
		if err == nil {
			err = <-stored
		}
		if err != nil {
			o.log.Warn("the collector's own records were not stored", "records", n, "error", err)
		}
	}
}

// add queues one record; when nothing is stored for long, it is dropped and said so.
func (o *ownRecords) add(typ, format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.addLocked(typ, format, args...)
}

func (o *ownRecords) addLocked(typ, format string, args ...any) {
	if o.closed {
		return
	}
	o.serial++
	now := o.now()
	text := fmt.Sprintf("node=%s type=%s msg=audit(%d.%03d:%d): ", o.node, typ, now.Unix(), now.UnixMilli()%1000, o.serial) +
		fmt.Sprintf(format, args...)
	select {
	case o.queue <- text:
	default:
		// Every one is counted; the log gets the first of each second.
		o.metrics.Dropped.Inc()
		if now.Sub(o.dropLogged) >= time.Second || now.Before(o.dropLogged) {
			o.dropLogged = now
			o.log.Warn("the collector's own records are dropped: more than the journal takes now", "record", text)
		}
	}
}

// start is the daemon's own start, as stock auditd words it.
func (o *ownRecords) start(version string) {
	var u unix.Utsname
	o.mu.Lock()
	o.began = true
	o.mu.Unlock()
	kernel := "?"
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	o.add("DAEMON_START", "op=start ver=%s format=raw kernel=%s auid=%d pid=%d uid=%d ses=%d res=success",
		version, kernel, procNumber("loginuid"), os.Getpid(), os.Getuid(), procNumber("sessionid"))
}

// procNumber reads one of the numbers the kernel keeps of this process's login.
func procNumber(name string) uint32 {
	n := unset
	if text, err := os.ReadFile("/proc/self/" + name); err == nil {
		if _, err := fmt.Sscan(string(text), &n); err != nil {
			return unset
		}
	}
	return n
}

// connection is a connection's begin, refusal or end.
func (o *ownRecords) connection(r listen.Report) {
	if o.refusing() {
		o.metrics.Dropped.Inc()
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	addr, port := r.Peer.Addr().WithZone(""), r.Peer.Port()
	switch {
	case r.Close:
		o.addLocked("DAEMON_CLOSE", "addr=%s port=%d res=success", addr, port)
	case r.Op == "":
		o.addLocked("DAEMON_ACCEPT", "addr=%s port=%d res=success", addr, port)
	default:
		now := o.now()
		if now.Sub(o.window) >= time.Second || now.Before(o.window) {
			o.window, o.refused = now, 0
		}
		if o.refused++; o.refused > refusalsPerSecond {
			o.omitted++
			return
		}
		if o.omitted > 0 {
			o.log.Warn("more connections were refused than are stored as records", "omitted", o.omitted)
			o.omitted = 0
		}
		o.addLocked("DAEMON_ACCEPT", "op=%s addr=%s port=%d res=no", r.Op, addr, port)
	}
}

// close stores the daemon's end and joins. Nothing may block it for long: a
// journal that takes nothing has a few seconds.
func (o *ownRecords) close() {
	o.mu.Lock()
	if o.began {
		o.addLocked("DAEMON_END", "op=terminate auid=%d uid=%d ses=%d pid=%d res=success", procNumber("loginuid"), os.Getuid(), procNumber("sessionid"), os.Getpid())
	}
	if !o.closed {
		o.closed = true
		close(o.queue)
	}
	o.mu.Unlock()
	give := time.AfterFunc(5*time.Second, o.cancel)
	o.wg.Wait()
	give.Stop()
	o.cancel()
}
