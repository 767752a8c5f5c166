package kernel

import (
	"sync"
	"time"
)

// Cause says where records were lost.
type Cause uint8

const (
	// CauseKernel: the kernel counted them as lost: its backlog was full, its rate limit
	// was reached, or it had no memory.
	CauseKernel Cause = iota
	// CauseBefore: the kernel had counted them as lost when this daemon registered, and no
	// run of it had said so: since the boot, or since the run before.
	CauseBefore
	// CauseOverrun: the socket's receive buffer was full and the kernel dropped
	// them. Only the multicast group loses this way; for the registered daemon
	// the kernel keeps the record and tries again.
	CauseOverrun
	// CauseQueue: the queue and the receive buffer were full because the consumer of the
	// queue did not keep up, and the reader dropped them.
	CauseQueue
	// CauseTruncated: the record was longer than MaxMessage allows; it is kept, cut.
	CauseTruncated
	// CauseMalformed: bytes that are no netlink message, or that the kernel did not send.
	CauseMalformed
	numCauses
)

func (c Cause) String() string {
	switch c {
	case CauseKernel:
		return "kernel"
	case CauseBefore:
		return "before-start"
	case CauseOverrun:
		return "overrun"
	case CauseQueue:
		return "queue"
	case CauseTruncated:
		return "truncated"
	case CauseMalformed:
		return "malformed"
	}
	return "unknown"
}

// Causes lists every cause.
func Causes() []Cause {
	all := make([]Cause, numCauses)
	for i := range all {
		all[i] = Cause(i)
	}
	return all
}

// Loss says how many records were lost for one cause, between the times First and Last at
// which the losses were noticed.
type Loss struct {
	Cause       Cause
	Count       uint64
	First, Last time.Time
}

// lossBook collects losses until take returns them, and keeps their totals since Open. Any
// goroutine may call its methods.
type lossBook struct {
	mu    sync.Mutex // guards what follows
	open  [numCauses]Loss
	total [numCauses]uint64
}

func (b *lossBook) add(c Cause, n uint64, now time.Time) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := &b.open[c]
	if l.Count == 0 {
		l.Cause, l.First = c, now
	}
	l.Count += n
	l.Last = now
	b.total[c] += n
}

// addSince is add for what was lost at some time since first.
func (b *lossBook) addSince(c Cause, n uint64, first, now time.Time) {
	b.add(c, n, now)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[c].Count > 0 && first.Before(b.open[c].First) {
		b.open[c].First = first
	}
}

// take returns what was lost since the last call.
func (b *lossBook) take() []Loss {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Loss
	for i := range b.open {
		if b.open[i].Count > 0 {
			out = append(out, b.open[i])
			b.open[i] = Loss{}
		}
	}
	return out
}

func (b *lossBook) totals() [numCauses]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}
