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

	changing sync.Mutex // held while sinks are opened and closed; taken before mu

	mu      sync.RWMutex // guards what follows; nobody waits for a sink or the disk under it
	list    []*worker    // in the order of their names
	problem error        // Config.Problem
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
	s.say(cfg) // nobody else has s yet
	for _, one := range cfg.Sinks {
		s.list = append(s.list, openWorker(one, s.o))
	}
	return s
}

func (s *Sinks) say(cfg Config) {
	if cfg.Problem != nil {
		s.o.Log.Error("not all sinks of alerts can be used; what is for the others waits", "error", cfg.Problem)
	}
	s.problem = cfg.Problem
}

// Problem is what is wrong with the sinks' files, as they were read last; nil: nothing.
func (s *Sinks) Problem() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.problem
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

// Reload takes over another configuration; one whose folder could not be read changes nothing. What waits for a sink stays, and goes where its
// file now says; what waits for one that is gone stays in its folder, should it come back.
func (s *Sinks) Reload(cfg Config) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	gone := map[string]*worker{}
	for _, w := range s.workers() {
		gone[w.name()] = w
	}
	known := make([]*worker, len(cfg.Sinks)) // nil: it is opened below
	for i, one := range cfg.Sinks {
		w, ok := gone[one.Name]
		if !ok {
			continue
		}
		delete(gone, one.Name)
		switch was, _, _ := w.now(); {
		case one.wrong != nil && was.wrong == nil: // it goes on as it was
		case !reflect.DeepEqual(was, one):
			w.set(one)
		}
		known[i] = w
	}
	if cfg.Unread { // no sink was taken away
		gone, known = nil, s.workers()
	}
	list := slices.DeleteFunc(slices.Clone(known), func(w *worker) bool { return w == nil })
	s.mu.Lock()
	s.say(cfg)
	s.list = list // what is gone gets nothing any more
	s.mu.Unlock()
	var errs []error
	for name, w := range gone {
		if n := w.queue.Len(); n > 0 {
			s.o.Log.Warn("a sink is no longer configured, and alerts wait for it: they stay in its folder", "sink", name, "waiting", n)
		}
		errs = append(errs, w.close())
	}
	if len(list) < len(known) {
		for i, w := range known {
			if w == nil {
				known[i] = openWorker(cfg.Sinks[i], s.o)
			}
		}
		s.mu.Lock()
		s.list = known
		s.mu.Unlock()
	}
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
// returns what came of it. Where it was taken, what waits is tried again at once.
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
		err := w.deliver(ctx, settings, p, newMessage(s.o.Node, s.o.Now(), list))
		if err == nil {
			w.retry()
		}
		return err
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
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.Lock()
	list := s.list
	s.list = nil
	s.mu.Unlock()
	errs := make([]error, len(list))
	var closing sync.WaitGroup
	for i, w := range list {
		closing.Go(func() { errs[i] = w.close() })
	}
	closing.Wait()
	return errors.Join(errs...)
}
