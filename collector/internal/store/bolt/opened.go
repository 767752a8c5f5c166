package bolt

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A store of years has more partitions than a process may have files open, and all but
// one of them are only read. So a sealed partition's file is opened when a search asks for
// it, and when too many are open the one that was unused for longest is closed.

const (
	// leastOpen and mostOpen bound the sealed partitions that are open at once;
	// between them it is an eighth of the limit of open files.
	leastOpen = 16
	mostOpen  = 512
)

// maxOpen returns how many sealed partitions may be open when Options does not say.
func maxOpen() int {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) != nil {
		return leastOpen
	}
	return int(min(max(r.Cur/8, leastOpen), mostOpen)) //nolint:gosec // bounded
}

// opened has the sealed partitions whose files are open and may be closed again: all but
// the one that is written and those that were dropped while a snapshot reads them.
//
// Whoever adds a partition holds that partition's lock and then takes mu, and under mu
// closes others, which needs their locks. That would be a deadlock of two that add each
// other's, were a lock waited for: so it is only tried, and a partition whose lock is taken
// is being read and stays open.
type opened struct {
	most  int
	clock atomic.Int64 // counts uses, of all partitions

	mu   sync.Mutex // guards list; nothing is waited for under it
	list []*partition
}

// use notes that p is used now; it takes no lock.
func (o *opened) use(p *partition) { p.used.Store(o.clock.Add(1)) }

// add puts p, which was just opened, into the list, and closes others until there are no
// more than most, or all that are left are in use. p.mu is held.
func (o *opened) add(p *partition) error {
	o.use(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, p)
	var err error
	for tries := len(o.list); len(o.list) > o.most && tries > 0; tries-- {
		i := o.oldest()
		x := o.list[i]
		if x == p || !x.mu.TryLock() { // it is being read: it counts as used now, try the next
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

// oldest returns the index of the partition that was unused for longest; o.mu is held and
// list is not empty.
func (o *opened) oldest() int {
	least := 0
	for i, x := range o.list {
		if x.used.Load() < o.list[least].used.Load() {
			least = i
		}
	}
	return least
}

// remove takes p out of the list: from now on only its holder closes it. p.mu is held.
func (o *opened) remove(p *partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = slices.DeleteFunc(o.list, func(x *partition) bool { return x == p })
}

// MayOpen returns how many partitions the store may still open beside those that are open
// now.
func (s *Store) MayOpen() int {
	o := &s.opened
	o.mu.Lock()
	defer o.mu.Unlock()
	return max(0, o.most-len(o.list))
}
