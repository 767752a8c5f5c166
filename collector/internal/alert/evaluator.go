package alert

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

// FileName is the file in the store's folder that keeps alerts over restarts.
const FileName = "alerts"

const (
	// saveEvery is how often, in ms, what is remembered of hosts is saved where no alert has changed.
	saveEvery = 10 * minute
	// recordsAtOnce is how many alerts of one look get records of their own.
	recordsAtOnce = 500
	// DefaultPatience is that of Options.
	DefaultPatience = 5 * time.Second
)

// Options of an Evaluator. All but Metrics are needed.
type Options struct {
	FS  fsys.FS
	Dir string // the store's folder
	Log hclog.Logger
	Now func() time.Time
	// Hosts calls fn with how each host stands, Collector says how the collector does.
	Hosts     func(fn func(*head.Vitals))
	Collector func() *Collector
	// Record stores what has begun or ended as a record of the collector's own; omitted is how
	// many more did so at once. It must not wait.
	Record func(n Notice, omitted int)
	// Deliver hands a group to the sinks, and must not wait; Sync waits until they have on disk
	// what they were given.
	Deliver func(Group)
	Sync    func(context.Context) error
	Metrics *metrics.Alerts
	// Patience bounds how long sinks may take to have on disk what they were told, and the file of alerts to be
	// written; DefaultPatience when 0.
	Patience time.Duration
}

// Evaluator looks at conditions and keeps alerts. Any goroutine may call its methods; Run is
// called once.
type Evaluator struct {
	o      Options
	kick   wake.Signal // Run looks at once
	file   string
	opened time.Time

	looking sync.Mutex    // held by one look from begin to end, taken before mu
	writing chan struct{} // has an element while the file is written

	mu     sync.Mutex // guards everything below; not held while the file is written
	rules  *rules
	alerts map[string]*alert // by ID
	hosts  map[string]*seenHost
	up     int64     // the evaluator's own clock: how long collectors have looked, ms
	now    time.Time // of the present look, or the last one
	round  uint64    // looks since the start
	fresh  bool      // this is the first look, and nothing is remembered
	resume bool      // this is the first look, and a file is remembered
	alive  int64     // then: when the collector before was there last, as far as records show, ms since 1970
	wall   int64     // when the file was saved, ms since 1970
	dirty  bool      // something has changed that the file does not have
	saved  int64     // up when it was saved
	failed string    // why it could not be saved last; "": it was
	// unsynced says that alerts are unsynced, and unsyncedWhy what was said of that.
	unsynced    bool
	unsyncedWhy string

	changed    []*alert       // in this look
	by         origin         // whom what is found now is about
	counts     map[origin]int // alerts, in this look
	swept      bool           // in this look those that are over were forgotten for want of room
	beyond     uint64         // what was wrong in this look beyond maxAlerts and maxOfAddress
	beyondBy   origin         // whom the last of them was about
	beyondMost uint64         // the most of a look since nothing is said of it
	beyondAt   int64
	dropped    uint64 // Collector.Dropped at the last look
	droppedAll uint64 // since they are dropped
	droppedAt  int64
}

// Open reads the file of a store. One that is damaged is set aside and said; then what there
// was before is not told again.
func Open(cfg Config, o Options) (*Evaluator, error) {
	r, err := compile(cfg)
	if err != nil {
		return nil, err
	}
	if o.Patience <= 0 {
		o.Patience = DefaultPatience
	}
	e := &Evaluator{o: o, kick: wake.New(), writing: make(chan struct{}, 1), opened: o.Now(), file: filepath.Join(o.Dir, FileName), rules: r, alerts: map[string]*alert{}, hosts: map[string]*seenHost{}}
	if err := e.load(); err != nil {
		return nil, err
	}
	if e.resume { // before anything comes to this collector: of while there was none it says nothing
		e.alive = e.wall
		o.Hosts(func(v *head.Vitals) { e.alive = max(e.alive, v.Last.UnixMilli()) })
	}
	return e, nil
}

// Check reports what is wrong with a configuration, its files included.
func Check(cfg Config) error {
	_, err := compile(cfg)
	return err
}

// Reload takes over another configuration. One that is wrong changes nothing.
func (e *Evaluator) Reload(cfg Config) error {
	r, err := compile(cfg)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.rules = r
	e.mu.Unlock()
	e.kick.Set()
	return nil
}

// Run looks again and again until ctx ends, and then saves.
func (e *Evaluator) Run(ctx context.Context) {
	e.mu.Lock()
	every := e.rules.Every
	e.mu.Unlock()
	tick := time.NewTimer(wake.In(every))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			e.looking.Lock()
			e.save(0)
			e.looking.Unlock()
			return
		case <-tick.C:
		case <-e.kick:
		}
		e.Look(ctx)
		e.mu.Lock()
		every = e.rules.Every
		e.mu.Unlock()
		tick.Reset(wake.In(every))
	}
}

// Look evaluates every condition once, and tells what is due.
func (e *Evaluator) Look(ctx context.Context) {
	e.looking.Lock()
	defer e.looking.Unlock()
	began := time.Now()
	col := e.o.Collector()
	e.mu.Lock()
	e.begin()
	if e.resume {
		e.catchUp()
	}
	e.o.Hosts(e.host)
	e.collector(col)
	e.finish()
	byTurns(e.changed)
	omitted := max(0, len(e.changed)-recordsAtOnce)
	var changed []Notice
	for _, a := range e.changed[:len(e.changed)-omitted] {
		changed = append(changed, e.notice(a, a.State))
	}
	e.changed = nil
	due := e.dirty || e.up-e.saved >= saveEvery
	e.mu.Unlock()
	if due {
		// Before anybody is told: after a kill they have not begun again. A disk that hangs is told of all the same.
		e.save(e.o.Patience)
	}
	for i, n := range changed {
		if i < len(changed)-1 {
			e.o.Record(n, 0)
		} else {
			e.o.Record(n, omitted)
		}
	}
	e.tell(ctx)
	if m := e.o.Metrics; m != nil {
		m.Looks.Inc()
		m.Seconds.Observe(time.Since(began).Seconds())
	}
}

// begin moves the clock on. mu is held.
func (e *Evaluator) begin() {
	now := e.o.Now()
	if !e.now.IsZero() {
		// A clock that was set, and a process that was stopped, are no time in which a host
		// was silent.
		e.up += min(max(0, now.Sub(e.now)), 3*e.rules.Every).Milliseconds()
	}
	e.now = now
	e.round++
	e.beyond, e.swept = 0, false
	e.count()
}

// catchUp finds out how long the collector before went on after it had saved: it may have been
// killed. mu is held.
func (e *Evaluator) catchUp() {
	e.up += min(max(0, e.alive-e.wall), saveEvery) // a clock that was set moves it by no more
}

// finish ends what is over, and forgets hosts that are gone. mu is held.
func (e *Evaluator) finish() {
	for name, x := range e.hosts {
		if x.round != e.round {
			delete(e.hosts, name)
		}
	}
	e.settle()
	e.thinResolved()
	e.fresh, e.resume = false, false
}

// tell hands over what is due, and saves that it did once sinks have it on disk: after a kill before
// that it is told again.
func (e *Evaluator) tell(ctx context.Context) {
	e.mu.Lock()
	groups := e.due()
	unsynced := e.unsynced
	e.mu.Unlock()
	if !unsynced {
		return
	}
	for _, g := range groups {
		e.o.Deliver(g)
	}
	ctx, cancel := context.WithTimeout(ctx, e.o.Patience)
	err := e.o.Sync(ctx)
	cancel()
	if e.noteSync(err, ctx.Err() == nil) {
		e.save(e.o.Patience)
	}
}

// noteSync notes whether sinks have on disk what they were told, which is said where it is worth it.
func (e *Evaluator) noteSync(err error, say bool) (synced bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		if text := err.Error(); say && text != e.unsyncedWhy {
			e.unsyncedWhy = text
			e.o.Log.Warn("the sinks have not what they were told on disk: after a restart it is told again", "error", err)
		}
		return false
	}
	for _, a := range e.alerts {
		a.unsynced = false
	}
	e.unsynced, e.unsyncedWhy = false, ""
	return true
}

// Listed is an alert as it is listed.
type Listed struct {
	Notice
	Told time.Time // when sinks had it last; zero: not yet
}

// List returns what fires and what is over since a day, by severity and time.
func (e *Evaluator) List() []Listed {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Listed
	for _, a := range e.alerts {
		if a.State == pending || a.Started == 0 {
			continue
		}
		l := Listed{Notice: e.notice(a, a.State)}
		if a.Started == a.ToldStart {
			l.Told = e.now.Add(-time.Duration(e.up-a.ToldAt) * time.Millisecond)
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(x, y Listed) int {
		return cmp.Or(strings.Compare(x.State, y.State), slices.Index(severities, y.Severity)-slices.Index(severities, x.Severity),
			y.Started.Compare(x.Started), strings.Compare(x.ID, y.ID))
	})
	return out
}

// Firing returns what fires and was told.
func (e *Evaluator) Firing() []Notice {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Notice
	for _, a := range e.alerts {
		if a.State == Firing && a.Started == a.ToldStart {
			out = append(out, e.notice(a, Firing))
		}
	}
	return out
}

// InForce is a condition as it is set.
type InForce struct {
	Name, Threshold, Severity, Doc string
	Off                            bool
	Firing                         map[string]int // alerts that fire, by severity
}

// Conditions returns every condition as it is set.
func (e *Evaluator) Conditions() []InForce {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]InForce, NumConditions)
	for c := range NumConditions {
		s := e.rules.Settings[c]
		out[c] = InForce{Name: c.String(), Threshold: c.Threshold(s), Severity: string(s.Severity), Doc: c.Doc(), Off: s.Off, Firing: map[string]int{string(s.Severity): 0}}
	}
	for _, a := range e.alerts {
		if a.State == Firing {
			out[a.cond].Firing[string(a.Severity)]++
		}
	}
	return out
}
