package locallog

import (
	"sync"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// syncer syncs the log from its own goroutine, so that incremental_async costs the writer
// nothing. Requests that come while a sync runs become one. mu is not held during the
// sync: running says that the goroutine uses a file, and wait returns only when no request
// is open and running is false, so that the writer may then close the file.
type syncer struct {
	log *Log

	mu      sync.Mutex    // guards the fields below
	cond    *sync.Cond    // signals a request, the end of a sync, and ended
	file    fsys.File     // the file to sync, nil: no request
	running bool          // a sync runs
	ended   bool          // the goroutine must end
	done    chan struct{} // closed when the goroutine has ended
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

// wait waits until no sync is requested or under way; then the writer may close the file.
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
