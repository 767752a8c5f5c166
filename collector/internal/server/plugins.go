package server

import (
	"context"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/syslog"
)

// Plugins is distribute_network and what plugins.d has.
type Plugins struct {
	dispatch.Settings
	List []conf.Plugin // none without distribute_network
	// Problem is what is wrong with other files of plugins.d: it is said, and those
	// in List run all the same.
	Problem error
}

const (
	// fanoutBytes and fanoutDelay are when gathered events are handed to plugins.
	fanoutBytes = 64 << 10
	fanoutDelay = 50 * time.Millisecond
)

// fanout gathers the events of all hosts, whole and in the order in which they
// were complete, for the plugins.
type fanout struct {
	d *dispatch.Dispatcher

	mu    sync.Mutex
	batch *dispatch.Batch // guarded by mu
	bytes int             // guarded by mu: of batch
}

// openPlugins starts the plugins there are; more may come with Reconfigure.
func (s *Server) openPlugins() error {
	if s.cfg.Plugins.Overflow == "" {
		s.cfg.Plugins.Overflow = conf.DoSyslog
	}
	if err := s.checkPlugins(&s.cfg.Plugins); err != nil {
		return err
	}
	s.sayPlugins(&s.cfg.Plugins)
	d, err := dispatch.Open(dispatch.Config{
		Settings: s.cfg.Plugins.Settings, Plugins: s.cfg.Plugins.List,
		Escalate: func(do conf.Do, why string) {
			s.action.Do(conf.Action{Do: do}, action.Message{Condition: overflowKey, Subject: "an audit plugin's queue is full", Text: why, Level: syslog.Alert})
		},
		Syslog: func(m string) { s.action.Syslog(syslog.Warning, m) },
		Logger: s.cfg.Log.Named("plugins"), Now: s.cfg.Now,
	})
	if err != nil {
		return err
	}
	s.fanout = &fanout{d: d}
	return nil
}

const overflowKey = "overflow_action"

func (s *Server) checkPlugins(p *Plugins) error {
	return s.action.Check(overflowKey, conf.Action{Do: p.Overflow})
}

func (s *Server) sayPlugins(p *Plugins) {
	if p.Problem != nil {
		s.cfg.Log.Error("not all plugins can be used", "error", p.Problem)
	}
}

// add gathers an event. It is the head's OnEvent, and never waits.
func (f *fanout) add(_ string, ev *event.Event) {
	if !f.d.Active() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.batch == nil {
		f.batch = dispatch.NewBatch(fanoutBytes/8, 64)
	}
	for i := range ev.Records {
		f.batch.Add(ev.Records[i].Type, ev.Records[i].Raw)
		f.bytes += len(ev.Records[i].Raw)
	}
	if f.bytes >= fanoutBytes {
		f.putLocked()
	}
}

func (f *fanout) putLocked() {
	f.d.Put(f.batch)
	f.batch, f.bytes = nil, 0
}

func (f *fanout) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.putLocked()
}

// run hands on what has waited long enough, until ctx ends.
func (f *fanout) run(ctx context.Context) {
	tick := time.NewTicker(fanoutDelay)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f.flush()
		case <-ctx.Done():
			return
		}
	}
}

// close lets the plugins have the last events, and ends them.
func (f *fanout) close() error {
	f.flush()
	return f.d.Close()
}
