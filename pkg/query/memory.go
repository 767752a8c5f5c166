package query

import (
	"errors"
	"sync/atomic"
)

// ErrMemory is returned by a source that would need more for the values it counts than
// the query's Memory has.
var ErrMemory = errors.New("there are too many different values to count them here: ask for less time or fewer hosts")

// Memory bounds what the answers to queries may keep in memory, in bytes. What an answer
// takes is estimated, and given back all at once, when nothing of it is needed any more.
// A Memory may have another one behind it, which several share. A nil Memory has no
// bound. Several goroutines may use it.
type Memory struct {
	most   int64
	taken  atomic.Int64
	behind *Memory
}

// NewMemory returns a Memory of so many bytes. What it gives is also taken from behind,
// unless that is nil.
func NewMemory(bytes int64, behind *Memory) *Memory { return &Memory{most: bytes, behind: behind} }

// Take takes n bytes, and returns false if there are not so many left. What a failed
// Take asked for counts as taken, so that every later one fails, too.
func (m *Memory) Take(n int) bool {
	if m == nil {
		return true
	}
	enough := m.taken.Add(int64(n)) <= m.most
	return m.behind.Take(n) && enough
}

// Release gives everything back. The caller must have dropped what it took m for.
func (m *Memory) Release() {
	if m == nil {
		return
	}
	n := m.taken.Swap(0)
	for b := m.behind; b != nil; b = b.behind {
		b.taken.Add(-n)
	}
}
