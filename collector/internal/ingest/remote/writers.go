package remote

import "sync"

// writers write replies for all sessions, a few goroutines. A session is in the
// queue at most once, however many replies it has: they go out in one write.
type writers struct {
	wg sync.WaitGroup

	mu      sync.Mutex
	cond    *sync.Cond // on mu: ready is not empty, or stopped
	ready   []*session // guarded by mu; ready[head:] wait, oldest first
	head    int        // guarded by mu
	stopped bool       // guarded by mu
	waiting int        // guarded by mu: goroutines asleep
	held    int        // guarded by mu: goroutines that will write what comes meanwhile
}

func (w *writers) start(n int) {
	w.cond = sync.NewCond(&w.mu)
	w.wg.Add(n)
	for range n {
		go w.run()
	}
}

// push queues a session that is not queued.
func (w *writers) push(s *session) {
	w.mu.Lock()
	w.ready = append(w.ready, s)
	sleeps := w.waiting > 0 && w.held == 0
	w.mu.Unlock()
	if sleeps {
		w.cond.Signal()
	}
}

// hold says that the caller writes what is queued until its release.
func (w *writers) hold() {
	w.mu.Lock()
	w.held++
	w.mu.Unlock()
}

// release writes what is queued.
func (w *writers) release() {
	for {
		w.mu.Lock()
		if w.head == len(w.ready) {
			w.held--
			w.mu.Unlock()
			return
		}
		s := w.pop()
		w.mu.Unlock()
		s.writeReplies()
	}
}

// pop removes the oldest session. mu is held.
func (w *writers) pop() *session {
	s := w.ready[w.head]
	w.ready[w.head] = nil
	if w.head++; w.head == len(w.ready) {
		w.ready, w.head = w.ready[:0], 0
	}
	return s
}

// run writes for sessions until stopped and nothing is left.
func (w *writers) run() {
	defer w.wg.Done()
	for {
		w.mu.Lock()
		for w.head == len(w.ready) && !w.stopped {
			w.waiting++
			w.cond.Wait()
			w.waiting--
		}
		if w.head == len(w.ready) {
			w.mu.Unlock()
			return
		}
		s := w.pop()
		w.mu.Unlock()
		s.writeReplies()
	}
}

// stop lets the queue run empty and joins.
func (w *writers) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.cond.Broadcast()
	w.wg.Wait()
}
