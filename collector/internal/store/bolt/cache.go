package bolt

import (
	"container/list"
	"sync"
)

// frameKey names a frame of a group.
type frameKey struct {
	p     *partition
	id    uint64
	frame uint32
}

// cache keeps unpacked frames for the searches that follow, up to limit bytes; the least
// recently used are dropped first.
//
// A frame that several goroutines want at once is unpacked once. The first of them puts an
// entry without text into all, unpacks without the lock, sets text or err and closes
// ready; the others find the entry and wait for ready. text and err are written before
// ready is closed, so whoever has seen it closed reads them without the lock.
//
// Whoever gets an entry calls done with it, and says whether parts of the text are in use beyond that. The
// bytes of such a text are never written again. The memory of others, once the cache has dropped them and all are
// done, takes a frame that is unpacked later: a search that finds little in much would else clear, and have
// collected, as much memory as it reads.
type cache struct {
	mu    sync.Mutex // guards everything below
	limit int64
	size  int64      // of the memory of all texts in lru: one of another frame's may be much larger than its text
	lru   *list.List // of *cached, the latest in front
	all   map[frameKey]*cached
	spare [][]byte // memory for frames to come, at most maxSpare
}

const maxSpare = 8

// cached is an entry of the cache.
type cached struct {
	key   frameKey
	ready chan struct{} // closed once text or err is set
	text  []byte
	err   error
	// guarded by cache.mu
	el   *list.Element // in lru; nil while it is being unpacked, and once it is dropped
	held int           // by how many, who are not done
	kept bool          // parts of the text are in use for as long as anybody likes
}

func newCache(limit int64) *cache {
	return &cache{limit: limit, lru: list.New(), all: map[frameKey]*cached{}}
}

// peek returns a frame if it is in the cache and unpacked; else nil. It does not wait.
func (c *cache) peek(key frameKey) *cached {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.all[key]
	if e == nil || e.el == nil {
		return nil
	}
	c.lru.MoveToFront(e.el)
	e.held++
	return e
}

// get returns a frame; fill makes its text when it is not in the cache, in memory that it is given, or in other memory that is
// nobody else's. An error of fill goes to all who wait for this text, and is not kept: the next get tries again. fill runs
// without the lock.
func (c *cache) get(key frameKey, fill func(memory []byte) ([]byte, error)) (*cached, error) {
	c.mu.Lock()
	if e := c.all[key]; e != nil {
		if e.el != nil {
			c.lru.MoveToFront(e.el)
		}
		e.held++
		c.mu.Unlock()
		<-e.ready
		if e.err != nil {
			return nil, e.err
		}
		return e, nil
	}
	e := &cached{key: key, ready: make(chan struct{}), held: 1}
	c.all[key] = e
	var memory []byte
	if n := len(c.spare); n > 0 {
		memory, c.spare = c.spare[n-1], c.spare[:n-1]
	}
	c.mu.Unlock()
	e.text, e.err = fill(memory)
	c.mu.Lock()
	defer c.mu.Unlock()
	close(e.ready)
	if e.err != nil {
		delete(c.all, key)
		return nil, e.err
	}
	e.el = c.lru.PushFront(e)
	c.size += int64(cap(e.text))
	for c.size > c.limit && c.lru.Len() > 1 {
		old := c.lru.Back()
		x := old.Value.(*cached)
		c.lru.Remove(old)
		delete(c.all, x.key)
		c.size -= int64(cap(x.text))
		x.el = nil
		c.reuse(x)
	}
	return e, nil
}

// done says that the caller of get or peek is done with an entry, which may be nil; keeps, that parts of the text stay in use.
func (c *cache) done(e *cached, keeps bool) {
	if e == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e.held--
	e.kept = e.kept || keeps
	if e.el == nil {
		c.reuse(e)
	}
}

// reuse takes the memory of an entry that was dropped, if nobody has it; mu is held.
func (c *cache) reuse(e *cached) {
	if e.held == 0 && !e.kept && len(c.spare) < maxSpare {
		c.spare = append(c.spare, e.text[:0])
	}
}
