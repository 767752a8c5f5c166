package dispatch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/conf"
)

// Settings are auditd.conf's keys for plugins; Dispatcher.Reload may change them.
type Settings struct {
	Depth       int     // q_depth: records a plugin's queue holds at least
	Overflow    conf.Do // overflow_action
	MaxRestarts int
}

// Config configures Open.
type Config struct {
	Settings
	Plugins []conf.Plugin // inactive ones are passed over

	// Escalate is called for overflow_action single and halt, once until Resume.
	// It must not block.
	Escalate func(do conf.Do, why string)
	// Syslog, if set, is called with what an administrator must see. It must not
	// block for long.
	Syslog func(message string)

	// Slack is how many bytes of records a plugin's queue may hold beyond Depth
	// records, default 4 MiB.
	Slack int

	StopTimeout time.Duration // for a plugin to take what is queued and to end, default 5 s
	SyslogPath  string        // for the builtin syslog, default /dev/log
	Stderr      *os.File      // of the processes, default /dev/null
	Logger      hclog.Logger
	Now         func() time.Time
}

// Stats describes one plugin: its counters since it was started, and its queue.
type Stats struct {
	Name      string
	PID       int    // of its process now, 0 for none
	Clients   int    // of the builtin af_unix
	Queued    int    // records waiting
	MostQueue int    // the most there were at once
	Delivered uint64 // records written to it, each once; also those counted below that a dead process left unread
	Dropped   uint64 // records it was to get and nobody read
	Restarts  uint64
	Up        bool // it runs, or listens, and gets records
	Suspended bool // by overflow_action
	Failed    bool // died more than max_restarts times
}

// ErrAction is returned for a word that is no overflow action.
var ErrAction = errors.New("not an overflow action")

// Dispatcher hands records to plugins. Any number of goroutines may call its methods. Put
// takes the list of plugins under mu and goes through it without: a list is replaced, never
// changed. So a plugin that has just left the list may get one more batch: it delivers that,
// or counts it as dropped once its queue is closed.
type Dispatcher struct {
	cfg Config // its Settings are guarded by mu, the rest never changes

	mu      sync.Mutex // guards everything below
	plugins []*plugin  // in the order of their names
	ending  sync.WaitGroup
	closed  bool
}

// Open starts the active plugins. It logs an error for a plugin that can't be started; the
// others run. The caller must Close.
func Open(cfg Config) (*Dispatcher, error) {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.StopTimeout <= 0 {
		cfg.StopTimeout = 5 * time.Second
	}
	if cfg.Slack <= 0 {
		cfg.Slack = 4 << 20
	}
	d := &Dispatcher{cfg: cfg}
	if err := d.check(cfg.Settings); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reconcileLocked(cfg.Plugins)
	return d, nil
}

// check returns ErrAction for an overflow action that does not exist or cannot be done.
func (d *Dispatcher) check(s Settings) error {
	switch s.Overflow {
	case conf.DoIgnore, conf.DoSyslog, conf.DoSuspend:
	case conf.DoSingle, conf.DoHalt:
		if d.cfg.Escalate == nil {
			return fmt.Errorf("%w: %s without anybody to do it", ErrAction, s.Overflow)
		}
	default:
		return fmt.Errorf("%w: %q", ErrAction, s.Overflow)
	}
	return nil
}

// Active reports whether any plugin receives records; without one, the caller need not
// build a batch.
func (d *Dispatcher) Active() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.plugins) > 0
}

// Put puts a batch into every plugin's queue. It never waits. All queues share the batch:
// nobody may change it afterwards.
func (d *Dispatcher) Put(b *Batch) {
	if b == nil || b.Len() == 0 {
		return
	}
	d.mu.Lock()
	plugins := d.plugins
	d.mu.Unlock()
	for _, p := range plugins {
		p.put(b)
	}
}

// Reload applies new settings and another list of plugins: a plugin that is unchanged gets
// a SIGHUP, a new one is started, one that left the list is ended, a changed one is ended
// and started. It does not wait for a plugin to end.
func (d *Dispatcher) Reload(s Settings, plugins []conf.Plugin) error {
	if err := d.check(s); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.cfg.Settings = s
	d.reconcileLocked(plugins)
	return nil
}

// policy returns what plugins are started with or told now; d.mu is held.
func (d *Dispatcher) policy() policy {
	return policy{overflow: d.cfg.Overflow, maxRestarts: d.cfg.MaxRestarts, escalate: d.cfg.Escalate, syslog: d.cfg.Syslog}
}

// reconcileLocked starts, keeps and ends plugins until those that run are those of the
// list; d.mu is held. A changed plugin that cannot be started leaves the old one running.
func (d *Dispatcher) reconcileLocked(list []conf.Plugin) {
	var next []*plugin
	kept := map[*plugin]bool{}
	for _, c := range list {
		switch {
		case !c.Active:
			continue
		case c.Direction == "in":
			d.cfg.Logger.Warn("plugin is passed over: direction = in is not supported", "plugin", c.Name)
			continue
		}
		var before *plugin
		for _, p := range d.plugins {
			if p.conf.Name == c.Name {
				before = p
			}
		}
		if before != nil && equal(before.conf, c) {
			kept[before] = true
			before.setPolicy(d.policy())
			before.sink.resize(d.cfg.Depth)
			before.sink.hup()
			next = append(next, before)
			continue
		}
		p, err := d.start(c, before)
		if err != nil {
			d.cfg.Logger.Error("plugin can't be started", "plugin", c.Name, "error", err)
			if before != nil {
				kept[before] = true // the old one is better than none
				next = append(next, before)
			}
			continue
		}
		if before != nil {
			kept[before] = true // start ends it
		}
		next = append(next, p)
	}
	for _, p := range d.plugins {
		if !kept[p] {
			d.endLocked(p, nil)
		}
	}
	d.plugins = next
}

// equal reports whether a plugin with configuration a can go on running under b.
func equal(a, b conf.Plugin) bool {
	return a.Path == b.Path && a.Type == b.Type && a.Format == b.Format && slices.Equal(a.Args, b.Args)
}

// endLocked has a plugin, which gets no more records, deliver what is queued and end, in a
// goroutine of its own; that closes done, unless nil, afterwards. d.mu is held.
func (d *Dispatcher) endLocked(p *plugin, done chan<- struct{}) {
	d.ending.Go(func() {
		p.sink.stop(time.Now().Add(d.cfg.StopTimeout))
		if done != nil {
			close(done)
		}
	})
}

// start makes a plugin. It takes records into its queue at once, and runs when before, whose
// place it takes, has ended. After an error before goes on. d.mu is held.
func (d *Dispatcher) start(c conf.Plugin, before *plugin) (*plugin, error) {
	ready := make(chan struct{})
	c.Args = slices.Clone(c.Args)
	p := &plugin{conf: c, logger: d.cfg.Logger, now: d.cfg.Now, policy: d.policy(), ready: ready}
	limit := bound{d.cfg.Depth, d.cfg.Slack}
	var run func()
	if c.Type == conf.PluginBuiltin {
		switch c.Path {
		case "builtin_af_unix", "af_unix":
			u, err := newUnixSink(p, limit)
			if err != nil {
				return nil, err
			}
			p.sink, run = u, u.run
		case "builtin_syslog", "syslog":
			s, err := newSyslogSink(p, limit, d.cfg.SyslogPath)
			if err != nil {
				return nil, err
			}
			p.sink, run = s, s.run
		default:
			return nil, fmt.Errorf("there is no builtin %q: builtin_af_unix and builtin_syslog are there", c.Path)
		}
	} else {
		s := newProcessSink(p, limit, d.cfg.Stderr)
		p.sink, run = s, s.run
	}
	if before != nil {
		d.endLocked(before, ready)
	} else {
		close(ready)
	}
	go run()
	return p, nil
}

// Resume ends suspensions and starts plugins again that had died too often.
func (d *Dispatcher) Resume() {
	d.mu.Lock()
	plugins := d.plugins
	d.mu.Unlock()
	for _, p := range plugins {
		p.resume()
	}
}

// Stats returns the Stats of each active plugin, in the order of their names.
func (d *Dispatcher) Stats() []Stats {
	d.mu.Lock()
	plugins := d.plugins
	d.mu.Unlock()
	all := make([]Stats, len(plugins))
	for i, p := range plugins {
		all[i] = Stats{Name: p.conf.Name, Delivered: p.handed.Load(), Dropped: p.dropped.Load(), Restarts: p.restarts.Load(), Suspended: p.suspended.Load()}
		p.sink.fill(&all[i])
		all[i].Up = all[i].Up && !all[i].Suspended
	}
	return all
}

// Depth returns the bound of each queue, in records.
func (d *Dispatcher) Depth() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg.Depth
}

// Close waits until every plugin has read what is queued and ends it (by the end of its
// input, then SIGTERM, at last SIGKILL), all within about StopTimeout. A second call is
// allowed.
func (d *Dispatcher) Close() error {
	d.mu.Lock()
	plugins := d.plugins
	d.plugins, d.closed = nil, true
	for _, p := range plugins {
		d.endLocked(p, nil)
	}
	d.mu.Unlock()
	d.ending.Wait()
	return nil
}

var _ io.Closer = (*Dispatcher)(nil)
