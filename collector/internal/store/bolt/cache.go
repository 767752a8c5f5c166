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
// ready is closed and never after, so whoever has seen it closed reads them without the
// lock. The bytes of a text are never written again, and stay valid for who holds them
// after the cache has dropped them.
type cache struct {
	mu    sync.Mutex // guards everything below
	limit int64
	size  int64      // of all texts in lru
	lru   *list.List // of *cached, the latest in front
	all   map[frameKey]*cached
}

// cached is an entry of the cache.
type cached struct {
	key   frameKey
	ready chan struct{} // closed once text or err is set
	text  []byte
	err   error
	el    *list.Element // in lru; nil while it is being unpacked. Guarded by cache.mu
}

func newCache(limit int64) *cache {
	return &cache{limit: limit, lru: list.New(), all: map[frameKey]*cached{}}
}

// peek returns a frame's text if it is in the cache and unpacked. It does not wait.
func (c *cache) peek(key frameKey) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.all[key]
	if e == nil || e.el == nil {
		return nil, false
	}
	c.lru.MoveToFront(e.el)
	return e.text, true
}

// get returns a frame's text; fill makes it when it is not in the cache. An error of fill
// goes to all who wait for this text, and is not kept: the next get tries again. fill runs
// without the lock, and must return bytes that are nobody else's.
func (c *cache) get(key frameKey, fill func() ([]byte, error)) ([]byte, error) {
	c.mu.Lock()
	if e := c.all[key]; e != nil {
		if e.el != nil {
			c.lru.MoveToFront(e.el)
		}
		c.mu.Unlock()
		<-e.ready
		return e.text, e.err
	}
	e := &cached{key: key, ready: make(chan struct{})}
	c.all[key] = e
	c.mu.Unlock()
	e.text, e.err = fill()
	c.mu.Lock()
	defer c.mu.Unlock()
	close(e.ready)
	if e.err != nil {
		delete(c.all, key)
		return nil, e.err
	}
	e.el = c.lru.PushFront(e)
	c.size += int64(len(e.text))
	for c.size > c.limit && c.lru.Len() > 1 {
		old := c.lru.Back()
		x := old.Value.(*cached)
		c.lru.Remove(old)
		delete(c.all, x.key)
		c.size -= int64(len(x.text))
	}
	return e.text, nil
}
