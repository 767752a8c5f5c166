package ship

import (
	"context"
	"fmt"
)

// Suspend stops sending until Resume: the Sender waits for the replies to what is in flight,
// then closes the connection. Records stay in the source. Suspend does not wait; any
// goroutine may call it.
func (s *Sender) Suspend() {
	s.mu.Lock()
	s.suspend()
	s.mu.Unlock()
	s.nudge.Set()
}

// suspend is Suspend for a caller that holds mu.
func (s *Sender) suspend() {
	s.paused = true
	s.m.Suspended.Store(1)
	s.progressed()
	if s.session != nil {
		s.session.decide(errSuspend)
	}
}

// Tell has a heartbeat sent soon: what Hello says has changed. Any goroutine may call it.
func (s *Sender) Tell() { s.tell.Set() }

// Resume ends what Suspend began. Any goroutine may call it.
func (s *Sender) Resume() {
	s.mu.Lock()
	s.paused, s.failures = false, 0
	s.m.Suspended.Store(0)
	s.mu.Unlock()
	s.nudge.Set()
}

func (s *Sender) isPaused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused
}

// Reload applies another configuration, except its Window, Logger, Metrics, Handle, Hello and KeepAcked, as
// soon as everything in flight is answered; then the first server is tried first. An
// error says that cfg is wrong; then nothing changes. Reload does not wait; any goroutine
// may call it.
func (s *Sender) Reload(cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.next = &cfg
	if s.session != nil {
		s.session.decide(errReload)
	}
	s.mu.Unlock()
	s.nudge.Set()
	return nil
}

// takeConfig applies the configuration that Reload left and reports whether there was one.
// Only Run calls it, between sessions, so cfg never changes under a session.
func (s *Sender) takeConfig() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		return false
	}
	next := *s.next
	s.next = nil
	next.Window, next.Logger, next.Metrics, next.Handle, next.Hello, next.KeepAcked = s.cfg.Window, s.cfg.Logger, s.cfg.Metrics, s.cfg.Handle, s.cfg.Hello, s.cfg.KeepAcked
	s.cfg = next
	return true
}

// Drain waits until every record in the source is acknowledged. When it ends earlier, left
// is how many are not: with ctx's error when ctx ends, with ErrSuspended when sending is
// suspended, or when Run has returned. Run must be running.
func (s *Sender) Drain(ctx context.Context) (left uint64, err error) {
	for {
		s.mu.Lock()
		progress, paused := s.progress, s.paused
		s.mu.Unlock()
		if left = s.src.Left(); left == 0 {
			return 0, nil
		}
		if paused {
			return left, fmt.Errorf("drain: %d records left: %w", left, ErrSuspended)
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return left, fmt.Errorf("drain: %d records left: %w", left, ctx.Err())
		case <-s.ended:
			if left = s.src.Left(); left == 0 {
				return 0, nil
			}
			return left, fmt.Errorf("drain: %d records left: the sender has ended", left)
		}
	}
}
