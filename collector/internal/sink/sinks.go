package sink

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Options are what Open needs beside the sinks' configuration.
type Options struct {
	FS   fsys.FS
	Dir  string // of the queues; made when it is needed
	Node string // the collector's own name
	Log  hclog.Logger
	Now  func() time.Time
	// Firing returns all that fires. It is called from the sinks' goroutines, and must not
	// wait for a sink. Whoever says by Deliver that an alert is over no longer returns it
	// here. nil: nothing is told again.
	Firing func() []Notice
	// Dropped is told of notices that a sink did not get; reason is a word.
	Dropped func(sink, reason string, notices int)

	mu *sync.Mutex // guards Firing
}

func (o *Options) firing() []Notice {
	o.mu.Lock()
	f := o.Firing
	o.mu.Unlock()
	if f == nil {
		return nil
	}
	return f()
}

// Sinks are all sinks. Any goroutine may call the methods, but none after Close.
type Sinks struct {
	o *Options

	mu   sync.RWMutex // guards list; held while one is opened or closed
	list []*worker    // in the order of their names
}

// Open opens the sinks, and begins to deliver what waits from the time before. The caller
// must Close them.
func Open(cfg Config, o Options) *Sinks {
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.FS == nil {
		o.FS = fsys.OS
	}
	o.mu = new(sync.Mutex)
	s := &Sinks{o: &o}
	s.say(cfg)
	for _, one := range cfg.Sinks {
		s.list = append(s.list, openWorker(one, s.o))
	}
	return s
}

func (s *Sinks) say(cfg Config) {
	if cfg.Problem != nil {
		s.o.Log.Error("not all sinks of alerts can be used; what is for the others waits", "error", cfg.Problem)
	}
}

// Deliver queues a group for each sink that takes such alerts. It never waits for a sink or
// the disk.
func (s *Sinks) Deliver(g Group) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, w := range s.list {
		w.put(&g)
	}
}

// SetFiring sets Options.Firing.
func (s *Sinks) SetFiring(firing func() []Notice) {
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	s.o.Firing = firing
}

// Sync waits until all that was delivered before is on disk. It returns why it is not when
// the disk fails, or ctx is done first; then it is delivered all the same, but not after a
// kill.
func (s *Sinks) Sync(ctx context.Context) error {
	var errs []error
	for _, w := range s.workers() {
		errs = append(errs, w.queue.Sync(ctx))
	}
	return errors.Join(errs...)
}

func (s *Sinks) workers() []*worker {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.list)
}

// Reload takes over another configuration. What waits for a sink stays, and goes where its
// file now says; what waits for one that is gone stays in its folder, should it come back.
func (s *Sinks) Reload(cfg Config) error {
	s.say(cfg)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := map[string]*worker{}
	for _, w := range s.list {
		old[w.name()] = w
	}
	list := make([]*worker, 0, len(cfg.Sinks))
	var errs []error
	for _, one := range cfg.Sinks {
		w, ok := old[one.Name]
		delete(old, one.Name)
		if !ok { // opened below, when those that are gone have let go of their files
			list = append(list, nil)
			continue
		}
		switch was, _, _ := w.now(); {
		case one.wrong != nil && was.wrong == nil: // it goes on as it was
		case !reflect.DeepEqual(was, one):
			w.set(one)
		}
		list = append(list, w)
	}
	for name, w := range old {
		if n := w.queue.Len(); n > 0 {
			s.o.Log.Warn("a sink is no longer configured, and alerts wait for it: they stay in its folder", "sink", name, "waiting", n)
		}
		errs = append(errs, w.close())
	}
	for i, w := range list {
		if w == nil {
			list[i] = openWorker(cfg.Sinks[i], s.o)
		}
	}
	s.list = list
	return errors.Join(errs...)
}

// Names returns the sinks' names.
func (s *Sinks) Names() []string {
	var names []string
	for _, w := range s.workers() {
		names = append(names, w.name())
	}
	return names
}

// ErrNoSink is returned by Test for a sink that there is not.
var ErrNoSink = errors.New("there is no such sink")

// Test delivers a group to one sink at once, past its queue and whatever it takes, and
// returns what came of it.
func (s *Sinks) Test(ctx context.Context, name string, g Group) error {
	for _, w := range s.workers() {
		if w.name() != name {
			continue
		}
		if len(g.Notices) == 0 {
			return errors.New("there is nothing to send")
		}
		settings, p, _ := w.now()
		list := make([]waiting, 0, len(g.Notices))
		for _, n := range g.Notices[:min(len(g.Notices), messageNotices)] {
			list = append(list, waiting{Notice: n, More: max(0, g.Total-len(g.Notices))})
		}
		return w.deliver(ctx, settings, p, newMessage(s.o.Node, s.o.Now(), list))
	}
	names := s.Names()
	if len(names) == 0 {
		return fmt.Errorf("%q: %w: none is configured (alert_sinks)", name, ErrNoSink)
	}
	return fmt.Errorf("%q: %w: want one of %s", name, ErrNoSink, strings.Join(names, ", "))
}

// Status returns how each sink stands, by name.
func (s *Sinks) Status() []Status {
	var all []Status
	for _, w := range s.workers() {
		all = append(all, w.report())
	}
	return all
}

// Close stops delivering. What waits is delivered after the next Open.
func (s *Sinks) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, w := range s.list {
		errs = append(errs, w.close())
	}
	s.list = nil
	return errors.Join(errs...)
}
