package bolt

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A store of years has more partitions than a process may have files open, and all
// but one of them are only read. So a sealed partition's file is opened when it is
// asked for, and of those that are open the one unused for longest is closed when
// they are too many.

const (
	// leastOpen and mostOpen bound the sealed partitions that are open at once;
	// between them it is an eighth of the limit of open files.
	leastOpen = 16
	mostOpen  = 512
)

// maxOpen is how many sealed partitions may be open when Options does not say.
func maxOpen() int {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) != nil {
		return leastOpen
	}
	return int(min(max(r.Cur/8, leastOpen), mostOpen)) //nolint:gosec // bounded
}

// opened are the sealed partitions whose files are open, less those that must stay so.
type opened struct {
	most  int
	clock atomic.Int64 // counts uses

	mu   sync.Mutex // guards list; nothing is waited for under it
	list []*partition
}

// use notes that p is used now.
func (o *opened) use(p *partition) { p.used.Store(o.clock.Add(1)) }

// add takes p, which was just opened and whose lock is held, and closes others.
func (o *opened) add(p *partition) error {
	o.use(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, p)
	var err error
	for tries := len(o.list); len(o.list) > o.most && tries > 0; tries-- {
		i := o.oldest()
		x := o.list[i]
		if x == p || !x.mu.TryLock() { // it is being read: the next one then
			o.use(x)
			continue
		}
		o.list = slices.Delete(o.list, i, i+1)
		if cerr := x.db.Close(); cerr != nil {
			err = cerr
		}
		x.db = nil
		x.mu.Unlock()
	}
	return err
}

func (o *opened) oldest() int {
	least := 0
	for i, x := range o.list {
		if x.used.Load() < o.list[least].used.Load() {
			least = i
		}
	}
	return least
}

// remove has p, whose lock is held, no longer closed by others.
func (o *opened) remove(p *partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = slices.DeleteFunc(o.list, func(x *partition) bool { return x == p })
}

// MayOpen is how many files the store may come to have open beside those it has now.
func (s *Store) MayOpen() int {
	o := &s.opened
	o.mu.Lock()
	defer o.mu.Unlock()
	return max(0, o.most-len(o.list))
}
