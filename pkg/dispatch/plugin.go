package dispatch

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/conf"
)

// sink is a kind of plugin: a process, the builtin af_unix, the builtin syslog. All methods
// may be called at once.
type sink interface {
	put(b *Batch) (dropped int) // queues what has room; never waits
	hup()                       // the configuration was read again
	revive()                    // an administrator asks to try again
	resize(depth int)           // sets the bound of the queues
	stop(deadline time.Time)    // delivers what is queued, ends, and joins; blocks
	fill(s *Stats)              // sets what the sink knows of the Stats
}

// plugin is what all kinds of plugins have in common: the counters, and what is done when
// records are dropped. Counters that are read beside are atomic; the rest is guarded by mu.
type plugin struct {
	conf   conf.Plugin
	logger hclog.Logger
	now    func() time.Time
	sink   sink
	ready  <-chan struct{} // closed once the plugin of that name before this one has ended

	handed    atomic.Uint64 // records written to the plugin
	dropped   atomic.Uint64 // records that were not delivered
	restarts  atomic.Uint64
	suspended atomic.Bool

	mu         sync.Mutex // guards everything below
	policy     policy
	unreported uint64    // drops that were not logged yet
	warned     time.Time // when drops were logged last; zero: the next is logged at once
	escalated  bool      // escalate was called since the last resume
}

// policy is the part of the configuration that may change while plugins run.
type policy struct {
	overflow    conf.Do
	maxRestarts int
	escalate    func(do conf.Do, why string)
	syslog      func(message string)
}

// warnEvery is how often a plugin's drops are logged at most.
const warnEvery = time.Minute

func (p *plugin) setPolicy(n policy) {
	p.mu.Lock()
	p.policy = n
	p.mu.Unlock()
}

func (p *plugin) maxRestarts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.policy.maxRestarts
}

// put queues a batch. It never waits; while suspended it only counts the records as dropped.
func (p *plugin) put(b *Batch) {
	if p.suspended.Load() {
		p.dropped.Add(uint64(b.Len()))
		return
	}
	if n := p.sink.put(b); n > 0 {
		p.overflow(n)
	}
}

// overflow counts n dropped records and does what overflow_action says. The log gets the
// first drop, and then once a minute how many there were. The callbacks run without mu.
func (p *plugin) overflow(n int) {
	p.dropped.Add(uint64(n))
	now := p.now()
	p.mu.Lock()
	pol := p.policy
	p.unreported += uint64(n)
	warn := now.Sub(p.warned) >= warnEvery && pol.overflow != conf.DoIgnore
	unreported := p.unreported
	if warn {
		p.warned, p.unreported = now, 0
	}
	escalate := (pol.overflow == conf.DoSingle || pol.overflow == conf.DoHalt) && !p.escalated
	p.escalated = p.escalated || escalate
	p.mu.Unlock()
	switch {
	case pol.overflow == conf.DoSuspend:
		if !p.suspended.Swap(true) {
			p.warn(pol, fmt.Sprintf("the queue for plugin %s is full: it gets no more records until resumed", p.conf.Name))
		}
	case warn:
		p.warn(pol, fmt.Sprintf("the queue for plugin %s is full: %d records dropped for it", p.conf.Name, unreported))
	}
	if escalate && pol.escalate != nil {
		pol.escalate(pol.overflow, "the queue for plugin "+p.conf.Name+" is full")
	}
}

// warn logs a message and, where it is set, sends it to syslog.
func (p *plugin) warn(pol policy, message string) {
	p.logger.Warn(message)
	if pol.syslog != nil {
		pol.syslog(message)
	}
}

// caughtUp is called when a queue is empty: drops that were not logged yet are logged now.
func (p *plugin) caughtUp() {
	p.mu.Lock()
	pol, n := p.policy, p.unreported
	p.unreported = 0
	if n > 0 {
		p.warned = time.Time{}
	}
	p.mu.Unlock()
	if n > 0 && pol.overflow != conf.DoIgnore {
		p.warn(pol, fmt.Sprintf("plugin %s keeps up again: %d more records were dropped for it", p.conf.Name, n))
	}
}

// lose counts and logs records that a plugin did not get for another reason than a full
// queue.
func (p *plugin) lose(n int, why string) {
	if n > 0 {
		p.dropped.Add(uint64(n))
		p.logger.Warn("records were not delivered to a plugin", "plugin", p.conf.Name, "records", n, "reason", why)
	}
}

// resume ends a suspension and has the sink try again.
func (p *plugin) resume() {
	p.mu.Lock()
	p.escalated = false
	p.mu.Unlock()
	if p.suspended.Swap(false) {
		p.logger.Info("plugin gets records again", "plugin", p.conf.Name)
	}
	p.sink.revive()
}
