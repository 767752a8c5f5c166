package agent

import (
	"errors"
	"sync"

	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/syslog"
)

// actions passes actions to the present runner, which a reload may replace. Any goroutine
// may call Do.
type actions struct {
	mu      sync.Mutex // guards the fields below
	runner  *action.Runner
	mailTo  string
	closing sync.WaitGroup
	errs    []error
}

// setActions takes over the configuration of actions, if it has changed.
func (a *Agent) setActions(c action.Config) error {
	s := &a.act
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runner != nil && s.mailTo == c.MailTo {
		return nil
	}
	c.Log = a.cfg.Logger.Named("action")
	before := s.runner
	s.runner, s.mailTo = action.New(c), c.MailTo
	if before != nil {
		s.closing.Go(func() {
			err := before.Close()
			s.mu.Lock()
			defer s.mu.Unlock()
			s.errs = append(s.errs, err)
		})
	}
	return nil
}

// Do implements locallog.Actor.
func (s *actions) Do(a conf.Action, m action.Message) { s.get().Do(a, m) }

func (s *actions) syslog(p syslog.Priority, text string) {
	if r := s.get(); r != nil {
		r.Syslog(p, text)
	}
}

func (s *actions) get() *action.Runner {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runner
}

func (s *actions) close() error {
	r := s.get()
	var err error
	if r != nil {
		err = r.Close()
	}
	s.closing.Wait()
	return errors.Join(append(s.errs, err)...)
}
