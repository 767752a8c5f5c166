package ingest

import "sync"

// ackers writes replies for all sessions with a few goroutines. A session is in
// the queue at most once, however many replies it has: they go out in one write.
type ackers struct {
	wg sync.WaitGroup

	mu      sync.Mutex
	cond    *sync.Cond // on mu: ready is not empty, or stopped
	ready   []*session // guarded by mu; ready[head:] wait, oldest first
	head    int        // guarded by mu
	stopped bool       // guarded by mu
	waiting int        // guarded by mu: goroutines asleep
	held    int        // guarded by mu: goroutines that will write what comes meanwhile
}

func (a *ackers) start(n int) {
	a.cond = sync.NewCond(&a.mu)
	a.wg.Add(n)
	for range n {
		go a.run()
	}
}

// push queues a session that is not queued.
func (a *ackers) push(s *session) {
	a.mu.Lock()
	a.ready = append(a.ready, s)
	wake := a.waiting > 0 && a.held == 0
	a.mu.Unlock()
	if wake {
		a.cond.Signal()
	}
}

// hold says that the caller writes what is queued until its release.
func (a *ackers) hold() {
	a.mu.Lock()
	a.held++
	a.mu.Unlock()
}

// release writes what is queued.
func (a *ackers) release() {
	for {
		a.mu.Lock()
		if a.head == len(a.ready) {
			a.held--
			a.mu.Unlock()
			return
		}
		s := a.pop()
		a.mu.Unlock()
		s.writeReplies()
	}
}

// pop takes the oldest session. mu is held.
func (a *ackers) pop() *session {
	s := a.ready[a.head]
	a.ready[a.head] = nil
	if a.head++; a.head == len(a.ready) {
		a.ready, a.head = a.ready[:0], 0
	}
	return s
}

// run takes sessions until stopped and nothing is left.
func (a *ackers) run() {
	defer a.wg.Done()
	for {
		a.mu.Lock()
		for a.head == len(a.ready) && !a.stopped {
			a.waiting++
			a.cond.Wait()
			a.waiting--
		}
		if a.head == len(a.ready) {
			a.mu.Unlock()
			return
		}
		s := a.pop()
		a.mu.Unlock()
		s.writeReplies()
	}
}

// stop lets the queue run empty and joins.
func (a *ackers) stop() {
	a.mu.Lock()
	a.stopped = true
	a.mu.Unlock()
	a.cond.Broadcast()
	a.wg.Wait()
}
