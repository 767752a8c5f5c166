package bolt

import (
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// What cannot be rewritten now can hardly be so a minute later, and each try may read a whole day and fill the disk. So it is left
// alone for a while, which doubles each time that it fails again.

const (
	firstWait = time.Hour
	mostWait  = 24 * time.Hour
)

// mayTry reports whether what is due is not left alone now.
func (s *Store) mayTry(d *due) bool {
	s.compacting.mu.Lock()
	defer s.compacting.mu.Unlock()
	was := s.compacting.failed[d.parts[0].part]
	return was == nil || !s.opts.now().Before(was.Next)
}

// tried notes how it went.
func (s *Store) tried(d *due, err error) {
	s.compacting.mu.Lock()
	defer s.compacting.mu.Unlock()
	first := d.parts[0].part
	if err == nil {
		delete(s.compacting.failed, first)
		return
	}
	if s.compacting.failed == nil {
		s.compacting.failed = map[store.Part]*store.Uncompacted{}
	}
	now := s.opts.now()
	was := s.compacting.failed[first]
	if was == nil {
		was = &store.Uncompacted{Part: first, Since: now}
		s.compacting.failed[first] = was
	}
	was.Times++
	was.Next, was.Err = now.Add(min(firstWait<<min(was.Times-1, 5), mostWait)), err
}

// Uncompacted implements store.Compactor. What was dropped meanwhile is no longer due, and forgotten.
func (s *Store) Uncompacted(c store.Compaction) (list []store.Uncompacted) {
	still := map[store.Part]*store.Uncompacted{}
	waiting := s.dueNow(&c)
	s.compacting.mu.Lock()
	defer s.compacting.mu.Unlock()
	for i := range waiting {
		first := waiting[i].parts[0].part
		if was := s.compacting.failed[first]; was != nil {
			still[first] = was
			list = append(list, *was)
		}
	}
	s.compacting.failed = still
	return list
}
