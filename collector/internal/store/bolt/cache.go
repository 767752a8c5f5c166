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

// cache keeps unpacked frames, the least recently used go first. A frame that
// several want at once is unpacked once. Its bytes are never written again.
type cache struct {
	mu    sync.Mutex // guards everything below
	limit int64
	size  int64
	lru   *list.List // of *cached, the latest in front
	all   map[frameKey]*cached
}

type cached struct {
	key   frameKey
	ready chan struct{}
	text  []byte
	err   error
	el    *list.Element
}

func newCache(limit int64) *cache {
	return &cache{limit: limit, lru: list.New(), all: map[frameKey]*cached{}}
}

// peek returns a frame's text if it is there.
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

// get returns a frame's text, made by fill when it is not there. Errors are not kept.
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
