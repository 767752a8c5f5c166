package trace

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// drainTime is how long the records of a program that has ended may take.
const drainTime = 5 * time.Second

// watcher takes the kernel's records and hands on the events of the trace.
type watcher struct {
	listener *kernel.Listener
	cancel   context.CancelFunc
	done     chan error // of the listener
	read     chan struct{}
	removed  chan struct{} // closed when the deletion of the trace's rule was seen
	seen     bool
	target   atomic.Pointer[target]
	ending   atomic.Int64 // when our rules began to be deleted, ms since the epoch; 0 before
	fn       func(*event.Event)
	begun    bool // the program has been started: what its child did before is none of its
}

type target struct {
	pid, ppid, session []byte
}

// listen begins to take records. Where no audit daemon runs and audit is off,
// nobody else wants them, and the kernel is asked to wait for us; otherwise they
// are read beside the daemon, or the kernel's log.
func (t *tracing) listen(status kernel.Status) error {
	beside := status.PID != 0 || status.Enabled != 0
	open := t.cfg.openKernel
	if open == nil {
		open = kernel.Open
	}
	l, err := open(kernel.Config{Multicast: beside, Enable: kernel.NoChange, QueueBytes: 64 << 20, Linger: time.Millisecond})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{listener: l, cancel: cancel, done: make(chan error, 1), read: make(chan struct{}), removed: make(chan struct{}), fn: t.cfg.Events}
	t.watcher = w
	go func() { w.done <- l.Run(ctx) }()
	go w.consume()
	return nil
}

// follow says whose events are wanted. Before it, none are.
func (w *watcher) follow(pid int, session *uint32) {
	p := strconv.Itoa(pid)
	t := &target{pid: []byte(p), ppid: []byte(p)}
	if session != nil {
		t.session = strconv.AppendUint(nil, uint64(*session), 10)
	}
	w.target.Store(t)
}

// finish waits for the records of what has happened until now, which those of
// the deletion of our rules come after, and ends.
func (w *watcher) finish(armed bool) (lost map[string]uint64, err error) {
	if armed {
		select {
		case <-w.removed:
		case <-time.After(drainTime):
		case err = <-w.done:
			w.done <- err
		}
	}
	w.cancel()
	err = <-w.done
	<-w.read
	lost = w.listener.Stats().Lost
	return lost, errors.Join(err, w.listener.Close())
}

func (w *watcher) consume() {
	defer close(w.read)
	a := event.NewAssembler(event.Config{}, w.emit)
	for {
		b, err := w.listener.Queue().Take(context.Background())
		if err != nil {
			break // io.EOF: the context does not end
		}
		for i := range b.Len() {
			w.record(a, b.Record(i))
		}
		w.listener.Queue().Release(b)
	}
	a.Flush()
}

func (w *watcher) record(a *event.Assembler, raw kernel.Record) {
	line := make([]byte, 0, len(raw.Text)+32) // the event keeps it
	line = append(append(append(line, "type="...), tables.TypeName(raw.Type)...), " msg="...)
	line = append(line, raw.Text...)
	var r record.Record
	if err := r.Parse(line); err != nil {
		return // not one of the kernel's own about a system call
	}
	if r.Type == tables.ConfigChange && !w.seen && bytes.Contains(r.Body, []byte("op=remove_rule")) && w.isOurs(&r) {
		w.seen = true
		close(w.removed)
		return
	}
	a.Add(&r, 0, time.Time{})
}

// clockTick is how far the kernel's coarse clock, which stamps records, may lie
// behind ours.
const clockTick = 20 // ms

// isOurs tells the deletion of our rule from older ones: what the kernel held
// back while no daemon was there comes to the next one that registers.
func (w *watcher) isOurs(removal *record.Record) bool {
	ending := w.ending.Load()
	return ending != 0 && removal.Ms() >= ending-clockTick
}

// emit hands on what the program and its children did, from when it was started.
func (w *watcher) emit(ev *event.Event) {
	t := w.target.Load()
	if t == nil {
		return
	}
	for i := range ev.Records {
		r := &ev.Records[i]
		if r.Type != tables.Syscall || !t.matches(r) {
			continue
		}
		if !w.begun {
			pid, _ := r.Get("pid")
			w.begun = bytes.Equal(pid.Value, t.pid) && isExec(r)
			if !w.begun {
				return
			}
		}
		w.fn(ev)
		return
	}
}

func (t *target) matches(r *record.Record) bool {
	if t.session != nil {
		ses, ok := r.Get("ses")
		return ok && bytes.Equal(ses.Value, t.session)
	}
	pid, _ := r.Get("pid")
	ppid, _ := r.Get("ppid")
	return bytes.Equal(pid.Value, t.pid) || bytes.Equal(ppid.Value, t.ppid)
}

func isExec(r *record.Record) bool {
	name, _ := callOf(r)
	return name == "execve" || name == "execveat"
}

// callOf names a record's system call.
func callOf(r *record.Record) (name string, arch uint32) {
	archField, _ := r.Get("arch")
	n, err := strconv.ParseUint(string(archField.Value), 16, 32)
	if err != nil {
		return "?", 0
	}
	nr, _ := r.Get("syscall")
	call, err := strconv.Atoi(string(nr.Value))
	if err != nil {
		return string(nr.Value), uint32(n)
	}
	if name, ok := tables.SyscallName(uint32(n), call); ok {
		return name, uint32(n)
	}
	return string(nr.Value), uint32(n)
}
