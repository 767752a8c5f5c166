package kernel

import (
	"sync"
	"time"
)

// Cause says where records were lost.
type Cause uint8

const (
	// CauseKernel: the kernel counted them as lost: its backlog was full, or its
	// rate limit or memory was.
	CauseKernel Cause = iota
	// CauseBefore: the kernel had counted them as lost when this daemon registered, and no
	// run of it had said so: since the boot, or since the run before.
	CauseBefore
	// CauseOverrun: the socket's receive buffer was full and the kernel dropped
	// them. Only the multicast group loses this way; for the registered daemon
	// the kernel keeps the record and tries again.
	CauseOverrun
	// CauseQueue: the queue and the receive buffer were full because what
	// follows did not keep up, and the reader dropped them.
	CauseQueue
	// CauseTruncated: longer than the longest record there can be; the record is
	// kept, cut.
	CauseTruncated
	// CauseMalformed: bytes that are no netlink message, or not the kernel's.
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

// Loss is how many records were lost for one cause, noticed between two times.
type Loss struct {
	Cause       Cause
	Count       uint64
	First, Last time.Time
}

// lossBook collects losses until they are reported, and counts them for ever.
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
