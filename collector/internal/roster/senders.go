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
	// adoptBack is how far behind the last that it has read it reads again: what was taken before is seen behind that where its quorum took longer, and the servers' clocks may differ.
	adoptBack = 2 * time.Minute
)

// learnedApart is how many batches' changes are kept apart; what comes with later ones is put together, for the cluster may be away for long.
const learnedApart = 8

// learned is what came with a batch, and with some before it: the last value of each key.
type learned struct {
	batch   uint64
	changed map[string][]byte
}

// take puts what is later into l.
func (l *learned) take(batch uint64, changed []store.KV) {
	if l.changed == nil {
		l.changed = make(map[string][]byte, len(changed))
	}
	for _, kv := range changed {
		l.changed[string(kv.Key)] = kv.Value
	}
	l.batch = batch
}

// Senders collects what this collector remembers of its senders until it is written.
type Senders struct {
	mu      sync.Mutex // guards learned
	learned []learned
}

// Add takes what came with a batch. It keeps the values of changed.
func (s *Senders) Add(batch uint64, changed []store.KV) {
	if len(changed) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.learned) < learnedApart {
		s.learned = append(s.learned, learned{})
	}
	s.learned[len(s.learned)-1].take(batch, changed)
}

// before takes out what came with batches before one, put together. What is not written then is put back.
func (s *Senders) before(batch uint64) (all learned) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for ; n < len(s.learned) && s.learned[n].batch < batch; n++ {
		all.take(s.learned[n].batch, s.learned[n].list())
	}
	s.learned = append([]learned(nil), s.learned[n:]...)
	return all
}

// putBack undoes before.
func (s *Senders) putBack(all learned) {
	s.mu.Lock()
	s.learned = append([]learned{all}, s.learned...)
	s.mu.Unlock()
}

func (l *learned) list() (list []store.KV) {
	for key, value := range l.changed {
		list = append(list, store.KV{Key: []byte(key), Value: value})
	}
	return list
}

// enterSenders writes what is known by now. all: nothing is to come, and all is stored.
func (r *Roster) enterSenders(ctx context.Context, now int64, stored uint64, all bool) error {
	if r.cfg.Senders == nil {
		return nil
	}
	if all {
		stored++
	}
	due := r.cfg.Senders.before(stored)
	if len(due.changed) == 0 {
		return nil
	}
	err := r.cfg.Roster.EnterSenders(ctx, now, due.list())
	if err != nil {
		r.cfg.Senders.putBack(due)
	}
	return err
}

// Adopt reads what the others remember of senders, and has it remembered here.
func (r *Roster) Adopt(ctx context.Context) error {
	if r.cfg.Adopt == nil {
		return nil
	}
	all, upTo, err := r.cfg.Roster.MemberSenders(ctx, max(0, r.adopted-adoptBack.Milliseconds()))
	if err != nil {
		return err
	}
	for member, changed := range all {
		if err := r.cfg.Adopt(member, changed); err != nil {
			r.cfg.Log.Warn("part of what another collector remembers of its senders cannot be read: what these send again here may be stored twice, and is shown once", "collector", member, "error", err)
		}
	}
	r.adopted = max(r.adopted, upTo)
	return nil
}
