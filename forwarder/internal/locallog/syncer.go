package locallog

import (
	"sync"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// syncer syncs the log from a goroutine of its own, so that incremental_async
// costs the writer nothing. Requests that come while one runs become one.
type syncer struct {
	log *Log

	mu      sync.Mutex // guards what follows
	cond    *sync.Cond
	file    fsys.File // to be synced, nil: nothing asked for
	running bool
	ended   bool
	done    chan struct{}
}

func newSyncer(l *Log) *syncer {
	s := &syncer{log: l, done: make(chan struct{})}
	s.cond = sync.NewCond(&s.mu)
	go s.run()
	return s
}

func (s *syncer) run() {
	defer close(s.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for s.file == nil && !s.ended {
			s.cond.Wait()
		}
		if s.file == nil {
			return
		}
		f := s.file
		s.file, s.running = nil, true
		s.mu.Unlock()
		s.log.noteSync(f.Datasync())
		s.mu.Lock()
		s.running = false
		s.cond.Broadcast()
	}
}

func (s *syncer) request() {
	s.mu.Lock()
	s.file = s.log.file
	s.mu.Unlock()
	s.cond.Broadcast()
}

// wait returns when no sync is asked for or under way: the file may be closed.
func (s *syncer) wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.file != nil || s.running {
		s.cond.Wait()
	}
}

func (s *syncer) stop() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.cond.Broadcast()
	<-s.done
}
