package remote

import (
	"errors"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/poll"
)

// submit hands a batch to the journal. When it is stored at once, its replies are
// written here, without another goroutine being woken. The poller leaves those that
// would have to wait to the session's goroutine.
func (s *session) submit(p *pending) {
	if p == nil {
		return
	}
	if p.Deferred = s.polled; s.polled && len(s.waiting) > 0 {
		s.waiting = append(s.waiting, p)
		return
	}
	s.mu.Lock()
	s.submitting = p
	s.mu.Unlock()
	var err error
	if len(p.Records) > 0 {
		err = s.all.in.Submit(s.all.ctx, &p.Batch, p.done)
	} else {
		p.done(nil)
	}
	switch {
	case s.polled && errors.Is(err, journal.ErrBusy):
		s.waiting = append(s.waiting, p)
	case err != nil:
		p.done(err)
	case s.polled:
		s.lane.submitted.Store(true)
	}
	s.mu.Lock()
	s.submitting = nil
	start := s.conclude()
	s.mu.Unlock()
	if start {
		s.writeReplies()
	}
}

// submitWaiting hands over what the journal's queue had no room for. Of the sessions
// that are not light, one at a time waits for room: the others' records come before the
// rest.
func (s *session) submitWaiting() {
	if len(s.waiting) == 0 {
		return
	}
	if s.load.class != poll.Light {
		select {
		case s.all.heavy <- struct{}{}:
			defer func() { <-s.all.heavy }()
		case <-s.all.ctx.Done(): // Submit says so
		}
	}
	for _, p := range s.waiting {
		s.submit(p)
	}
	clear(s.waiting)
	s.waiting = s.waiting[:0]
}

// done is called when p's records are stored, or are not. It doesn't block.
func (p *pending) done(err error) {
	s := p.s
	start := false
	s.mu.Lock()
	p.finished, p.err = true, err
	if s.submitting != p {
		start = s.conclude()
	}
	s.mu.Unlock()
	if start {
		s.all.writers.push(s)
	}
}

// conclude settles what is finished, and says whether the caller is to have the replies
// written: then it has set writing for them. mu is held.
func (s *session) conclude() (start bool) {
	start = s.settle() && !s.writing
	s.writing = s.writing || start
	return start
}
