package remote

import (
	"container/list"
	"sync"

	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// owed is the replies that are made and not written: they are bounded apart from what
// is in flight, for how long they stay is the sender's choice and not the disk's. A
// connection that owes its sender Config.MaxReplies is not read on. When all together
// owe Config.MaxRepliesTotal, the connections that have not taken theirs for longest
// are closed, until there is room again.
type owed struct {
	mu      sync.Mutex
	total   int64     // guarded by mu; bytes
	blocked list.List // guarded by mu: of *session whose replies are not taken, longest first
}

// add counts n more bytes, or fewer.
func (o *owed) add(n int) {
	if n == 0 {
		return
	}
	o.mu.Lock()
	o.total += int64(n)
	o.mu.Unlock()
}

// block says that a session's sender does not take its replies for now.
func (o *owed) block(s *session) {
	o.mu.Lock()
	s.blockedAt = o.blocked.PushBack(s)
	o.mu.Unlock()
}

// unblock says that it took them, or is over.
func (o *owed) unblock(s *session) {
	o.mu.Lock()
	if s.blockedAt != nil {
		o.blocked.Remove(s.blockedAt)
		s.blockedAt = nil
	}
	o.mu.Unlock()
}

// popSlowest removes the session that is blocked for longest, if there is more than
// limit in all. It is nil when there is not, or nobody is blocked.
func (o *owed) popSlowest(limit int64) *session {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.total <= limit {
		return nil
	}
	first := o.blocked.Front()
	if first == nil {
		return nil
	}
	s := first.Value.(*session)
	o.blocked.Remove(first)
	s.blockedAt = nil
	return s
}

// evict closes connections until the replies owed are within their bound. No lock is
// held.
func (all *Sessions) evict() {
	for {
		s := all.owed.popSlowest(all.cfg.MaxRepliesTotal)
		if s == nil {
			return
		}
		s.mu.Lock()
		n := s.abandonReplies()
		s.mu.Unlock()
		all.cfg.Metrics.Evicted.Inc()
		s.c.Shut(metrics.ClosedEvicted)
		if ok, suppressed := all.evicted.Allow(); ok {
			all.cfg.Log.Warn("closed a connection: it did not take its replies, and all that wait are more than may; what it has no acknowledgement for it sends again",
				"peer", s.c.Peer(), "bytes", n, "limit", all.cfg.MaxRepliesTotal, "suppressed", suppressed)
		}
	}
}

// abandonReplies makes a session broken: what it owes nobody gets any more. It says how
// many bytes that was. s.mu is held.
func (s *session) abandonReplies() int {
	n := s.owed
	s.broken, s.owed, s.replies = true, 0, nil
	s.all.owed.add(-n)
	return n
}
