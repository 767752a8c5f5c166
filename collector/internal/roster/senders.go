package roster

import (
	"context"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// What a collector remembers of its senders (collector/internal/journal: offsets, windows of numbers, last records) the others adopt, so that a host that moves is known
// where it comes to. It is written behind the batch after the one that it came with: by then what it speaks of is stored. What a host
// sent behind that, and sends again elsewhere, is told by its bytes when it is read (store.JoinedBySender).

const (
	// adoptEvery is how often a collector reads what the others remember.
	adoptEvery = 15 * time.Second
	// adoptBack is how far behind the last time it reads again: their clocks may differ.
	adoptBack = 2 * time.Minute
)

// learned is what came with a batch.
type learned struct {
	batch   uint64
	changed []store.KV
}

// Senders collects what this collector remembers of its senders until it is written.
type Senders struct {
	mu      sync.Mutex // guards learned
	learned []learned
}

// Add takes what came with a batch. It keeps changed.
func (s *Senders) Add(batch uint64, changed []store.KV) {
	if len(changed) == 0 {
		return
	}
	s.mu.Lock()
	s.learned = append(s.learned, learned{batch, changed})
	s.mu.Unlock()
}

// before returns what came with batches before one, each key once.
func (s *Senders) before(batch uint64) (list []store.KV, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := map[string][]byte{}
	for n < len(s.learned) && s.learned[n].batch < batch {
		for _, kv := range s.learned[n].changed {
			last[string(kv.Key)] = kv.Value
		}
		n++
	}
	for key, value := range last {
		list = append(list, store.KV{Key: []byte(key), Value: value})
	}
	return list, n
}

// written forgets the first n.
func (s *Senders) written(n int) {
	s.mu.Lock()
	s.learned = append([]learned(nil), s.learned[n:]...)
	s.mu.Unlock()
}

// enterSenders writes what is known by now. all: nothing is to come, and all is stored.
func (r *Roster) enterSenders(ctx context.Context, now int64, stored uint64, all bool) error {
	if r.cfg.Senders == nil {
		return nil
	}
	if all {
		stored++
	}
	list, n := r.cfg.Senders.before(stored)
	if len(list) > 0 {
		if err := r.cfg.Roster.EnterSenders(ctx, now, list); err != nil {
			return err
		}
	}
	r.cfg.Senders.written(n)
	return nil
}

// Adopt reads what the others remember of senders, and has it remembered here.
func (r *Roster) Adopt(ctx context.Context) error {
	if r.cfg.Adopt == nil {
		return nil
	}
	now := r.cfg.Now().UnixMilli()
	since := int64(0)
	if r.adopted != 0 {
		since = r.adopted - adoptBack.Milliseconds()
	}
	all, err := r.cfg.Roster.MemberSenders(ctx, since)
	if err != nil {
		return err
	}
	for member, changed := range all {
		if err := r.cfg.Adopt(member, changed); err != nil {
			r.cfg.Log.Warn("part of what another collector remembers of its senders cannot be read: what these send again here may be stored twice, and is shown once", "collector", member, "error", err)
		}
	}
	r.adopted = now
	return nil
}
