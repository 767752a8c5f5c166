package nss

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxEntries = 8192 // answers that are kept
	maxQueue   = 256  // lookups that wait for a helper
	maxHelpers = 2
	maxBatch   = 32 // lookups that a helper is started for

	keepFound  = 10 * time.Minute
	keepAbsent = 30 * time.Second // also what a directory that is down says of everybody
	keepFailed = 15 * time.Second

	helperTime = 5 * time.Second
	warnEvery  = time.Minute
)

// key is what is looked for: an id, or the name when there is one.
type key struct {
	database int
	id       uint32
	name     string
}

type state uint8

const (
	unknown state = iota // not asked yet, or nobody answered
	found
	absent
)

// answer is what was found for a key.
type answer struct {
	state state
	id    uint32
	name  string
}

// entry is what is known of a key. A known answer is given out while it is looked
// for anew.
type entry struct {
	answer  answer
	plan    plan
	expires time.Time
	done    chan struct{} // closed at the first answer or failure
	settled bool          // done is closed
	asked   bool          // waits for a helper, or has one
	alone   bool          // failed in company: the next time it gets a helper to itself
}

// directory asks the sources beside the local files and caches their answers. A lookup puts
// its key into queue, under mu, and a helper goroutine takes it from there and asks
// without mu; callers wait only for a first answer, and only as long as credit allows.
type directory struct {
	cfg *Config

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup // of the helpers

	mu      sync.Mutex // guards what follows
	closed  bool
	entries map[key]*entry
	queue   []key
	helpers int
	// patient: the last helper answered in time. A source that hangs is waited for
	// once, not by every record.
	patient bool
	credit  time.Duration // how long callers may still wait
	earned  time.Time     // when credit was last added to
	warned  time.Time

	found, absent, failed, timedOut, unanswered atomic.Uint64
}

func newDirectory(cfg *Config) *directory {
	d := &directory{cfg: cfg, entries: map[key]*entry{}, patient: true, credit: 4 * cfg.Wait, earned: cfg.Now()}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// find returns what is known of k, after asking for it where nothing is.
func (d *directory) find(k key, p plan) answer {
	now := d.cfg.Now()
	d.mu.Lock()
	e := d.entries[k]
	if e == nil {
		e = &entry{done: make(chan struct{})}
		d.makeRoom()
		d.entries[k] = e
	}
	if !e.asked && (!e.settled || now.After(e.expires)) {
		e.plan = p
		d.ask(k, e)
	}
	a, settled, wait := e.answer, e.settled, d.mayWait(now)
	if settled || !e.asked {
		wait = 0
	}
	d.mu.Unlock()
	if wait > 0 {
		a = d.await(e, wait)
	}
	if a.state == unknown {
		d.unanswered.Add(1)
	}
	return a
}

// ask has a helper look for k, unless too much waits already. d.mu is held.
func (d *directory) ask(k key, e *entry) {
	if d.closed || len(d.queue) >= maxQueue {
		return
	}
	e.asked = true
	d.queue = append(d.queue, k)
	if d.helpers < maxHelpers {
		d.helpers++
		d.running.Add(1)
		go d.help()
	}
}

// mayWait is how long a caller may wait now. d.mu is held.
func (d *directory) mayWait(now time.Time) time.Duration {
	if !d.patient {
		return 0
	}
	if d.cfg.Share == 0 {
		return d.cfg.Wait
	}
	if gone := now.Sub(d.earned); gone > 0 {
		d.credit = min(4*d.cfg.Wait, d.credit+time.Duration(float64(gone)*d.cfg.Share))
	}
	d.earned = now
	return min(d.credit, d.cfg.Wait)
}

// await waits for e's first answer.
func (d *directory) await(e *entry, wait time.Duration) answer {
	from := time.Now()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	inTime := true
	select {
	case <-e.done:
	case <-d.ctx.Done():
	case <-timer.C:
		inTime = false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.credit = max(0, d.credit-time.Since(from))
	if !inTime && !e.settled && wait >= d.cfg.Wait {
		d.patient = false
	}
	return e.answer
}

// help asks until nothing is left to ask.
func (d *directory) help() {
	defer d.running.Done()
	for {
		keys := d.take()
		if len(keys) == 0 {
			return
		}
		from := time.Now()
		answers, err := d.cfg.ask(d, keys[0].database, keys)
		d.settle(keys, answers, err, time.Since(from))
	}
}

// take takes the next lookups off the queue: ids of one database together, a name
// by itself, as the answer may bear another. It returns none when there are none,
// and the helper ends.
func (d *directory) take() (keys []key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		d.queue = nil
	}
	rest := d.queue[:0]
	for _, k := range d.queue {
		if len(keys) == 0 || len(keys) < maxBatch && !d.single(k) && !d.single(keys[0]) && keys[0].database == k.database {
			keys = append(keys, k)
			continue
		}
		rest = append(rest, k)
	}
	d.queue = rest
	if len(keys) == 0 {
		d.helpers--
	}
	return keys
}

// single reports whether k gets a helper to itself. d.mu is held.
func (d *directory) single(k key) bool {
	return k.name != "" || d.entries[k] != nil && d.entries[k].alone
}

// settle keeps what was answered.
func (d *directory) settle(keys []key, answers []answer, err error, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cfg.Now()
	if took < d.cfg.Wait {
		d.patient = true
	}
	for i, k := range keys {
		a := answer{}
		if err == nil {
			a = answers[i]
		}
		keep := keepFailed
		switch a.state {
		case found:
			d.found.Add(1)
			keep = keepFound
		case absent:
			d.absent.Add(1)
			keep = keepAbsent
		default:
			d.failed.Add(1)
		}
		e := d.entries[k]
		if e == nil {
			continue // forgotten meanwhile
		}
		e.asked, e.alone, e.expires = false, a.state == unknown && len(keys) > 1, now.Add(keep)
		if a.state != unknown {
			e.answer = a
		}
		if !e.settled {
			e.settled = true
			close(e.done)
		}
	}
	if err == nil || d.closed {
		return
	}
	if errors.Is(err, context.DeadlineExceeded) {
		d.timedOut.Add(1)
	}
	if d.cfg.Warn != nil && (d.warned.IsZero() || now.Sub(d.warned) >= warnEvery) {
		d.warned = now
		d.cfg.Warn("users and groups can't be looked up: their numbers are written until it works again", "error", err)
	}
}

// makeRoom drops an answer when there are as many as are kept: of some, the one
// that expires first. d.mu is held.
func (d *directory) makeRoom() {
	if len(d.entries) < maxEntries {
		return
	}
	const some = 8
	var oldest key
	var at time.Time
	n := 0
	for k, e := range d.entries {
		if e.asked {
			continue
		}
		if n == 0 || e.expires.Before(at) {
			oldest, at = k, e.expires
		}
		if n++; n == some {
			break
		}
	}
	if n > 0 {
		delete(d.entries, oldest)
	}
}

// forget drops every answer: the sources have changed. Lookups under way go on for
// those who wait for them.
func (d *directory) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, e := range d.entries {
		if !e.asked {
			delete(d.entries, k)
		}
		e.expires = time.Time{}
	}
}

func (d *directory) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.cancel()
	d.running.Wait()
}
