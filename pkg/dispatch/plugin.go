package dispatch

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/conf"
)

// sink is how a kind of plugin gets its records.
type sink interface {
	put(b *Batch) (dropped int) // never waits
	hup()
	revive()                 // an administrator asked for it: try again
	resize(depth int)        // of the queues
	stop(deadline time.Time) // blocks: delivers what is queued, ends, joins
	fill(s *Stats)
}

// plugin is what all kinds have in common: counts, drops and what follows from
// them.
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

	mu        sync.Mutex // guards what follows
	policy    policy
	unsaid    uint64 // drops not said yet
	said      time.Time
	escalated bool
}

// policy is what may change while plugins run.
type policy struct {
	overflow    conf.Do
	maxRestarts int
	escalate    func(do conf.Do, why string)
	syslog      func(message string)
}

const sayEvery = time.Minute

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

func (p *plugin) put(b *Batch) {
	if p.suspended.Load() {
		p.dropped.Add(uint64(b.Len()))
		return
	}
	if n := p.sink.put(b); n > 0 {
		p.overflow(n)
	}
}

// overflow counts drops and does what overflow_action says. It speaks at the
// first drop and then once a minute.
func (p *plugin) overflow(n int) {
	p.dropped.Add(uint64(n))
	now := p.now()
	p.mu.Lock()
	pol := p.policy
	p.unsaid += uint64(n)
	speak := now.Sub(p.said) >= sayEvery && pol.overflow != conf.DoIgnore
	unsaid := p.unsaid
	if speak {
		p.said, p.unsaid = now, 0
	}
	escalate := (pol.overflow == conf.DoSingle || pol.overflow == conf.DoHalt) && !p.escalated
	p.escalated = p.escalated || escalate
	p.mu.Unlock()
	switch {
	case pol.overflow == conf.DoSuspend:
		if !p.suspended.Swap(true) {
			p.say(pol, fmt.Sprintf("the queue for plugin %s is full: it gets no more records until resumed", p.conf.Name))
		}
	case speak:
		p.say(pol, fmt.Sprintf("the queue for plugin %s is full: %d records dropped for it", p.conf.Name, unsaid))
	}
	if escalate && pol.escalate != nil {
		pol.escalate(pol.overflow, "the queue for plugin "+p.conf.Name+" is full")
	}
}

func (p *plugin) say(pol policy, message string) {
	p.logger.Warn(message)
	if pol.syslog != nil {
		pol.syslog(message)
	}
}

// caughtUp is called when a queue is empty: what was dropped and not yet said is
// said now.
func (p *plugin) caughtUp() {
	p.mu.Lock()
	pol, n := p.policy, p.unsaid
	p.unsaid = 0
	if n > 0 {
		p.said = time.Time{}
	}
	p.mu.Unlock()
	if n > 0 && pol.overflow != conf.DoIgnore {
		p.say(pol, fmt.Sprintf("plugin %s keeps up again: %d more records were dropped for it", p.conf.Name, n))
	}
}

// lose counts records that a plugin was to get and did not, for another reason
// than a full queue.
func (p *plugin) lose(n int, why string) {
	if n > 0 {
		p.dropped.Add(uint64(n))
		p.logger.Warn("records were not delivered to a plugin", "plugin", p.conf.Name, "records", n, "reason", why)
	}
}

func (p *plugin) resume() {
	p.mu.Lock()
	p.escalated = false
	p.mu.Unlock()
	if p.suspended.Swap(false) {
		p.logger.Info("plugin gets records again", "plugin", p.conf.Name)
	}
	p.sink.revive()
}
