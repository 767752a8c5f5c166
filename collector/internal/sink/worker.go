package sink

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/sink/queue"
)

// Why notices are dropped: the values of the reason label.
const (
	DroppedFull    = "full"    // more waited than queue_notices or queue_bytes
	DroppedRefused = "refused" // the other end takes them as little the next time
)

const (
	firstPause = time.Second
	mostPause  = 5 * time.Minute
)

// worker takes what waits for one sink to its other end.
type worker struct {
	o     *Options
	queue *queue.Queue
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu       sync.Mutex // guards what follows
	settings Settings
	peer     peer
	status   Status
	failures int            // since the last success
	changed  chan struct{}  // closed when the settings have changed
	unsaid   map[string]int // dropped, by reason, and not said yet
	saying   *time.Timer    // nil: the next drop is said at once
	closed   bool           // no timer is begun any more

	timed sync.WaitGroup // what saying's timer runs
}

// Status is how a sink stands.
type Status struct {
	Name, Kind  string
	Queued      int
	Delivered   uint64 // notices
	Failed      uint64 // deliveries that have to be tried again
	Dropped     map[string]uint64
	LastSuccess time.Time // zero: none since the start
	LastError   string
	LastFailure time.Time
	Failing     time.Time // since when it takes nothing; zero: it does
	LastDropped time.Time // when it did not get a notice, and will not; zero: never. Notices about itself do not count
	WhyDropped  string
	Unsaved     string // why its queue is in memory only; "": it is on disk
}

func openWorker(s Settings, o *Options) *worker {
	w := &worker{o: o, settings: s, peer: newPeer(s), changed: make(chan struct{}), unsaid: map[string]int{}}
	w.status = Status{Dropped: map[string]uint64{DroppedFull: 0, DroppedRefused: 0}}
	w.queue = queue.Open(queue.Config{
		FS: o.FS, Dir: filepath.Join(o.Dir, s.Name), Limits: s.limits(), Log: o.Log.With("sink", s.Name), Now: o.Now,
		Dropped: func(n int) {
			w.dropped(DroppedFull, n, errors.New("more wait than queue_notices or queue_bytes allow"))
		},
	})
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.done.Go(func() { w.run(ctx) })
	return w
}

func (s *Settings) limits() queue.Limits {
	return queue.Limits{Items: s.QueueNotices, Bytes: s.QueueBytes}
}

// set changes the settings; what waits stays.
func (w *worker) set(s Settings) {
	w.mu.Lock()
	w.settings, w.peer, w.failures = s, newPeer(s), 0
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
	w.queue.SetLimits(s.limits())
}

// retry ends a pause.
func (w *worker) retry() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *worker) now() (Settings, peer, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.settings, w.peer, w.changed
}

func (w *worker) name() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.settings.Name
}

// put queues what of a group is for this sink.
func (w *worker) put(g *Group) {
	s, _, _ := w.now()
	var items []queue.Item
	for i := range g.Notices {
		n := g.Notices[i]
		if !s.takes(&n) {
			continue
		}
		n.Summary = plain(n.Summary, 4<<10)
		data, err := json.Marshal(waiting{Notice: n, More: max(0, g.Total-len(g.Notices))})
		if err != nil || len(data) > messageBytes/2 {
			w.dropped(DroppedRefused, 1, errors.New("the notice can't be written as JSON, or is too large"))
			continue
		}
		items = append(items, queue.Item{
			ID: n.ID, Episode: n.Started.UTC().Format(time.RFC3339Nano), Group: n.Condition + "/" + n.Severity + "/" + n.State,
			Rank: rank(n.Severity), Data: data,
		})
	}
	if len(items) > 0 {
		w.queue.Put(items...)
	}
}

// run delivers until ctx is done. While the other end takes nothing, the pauses grow.
func (w *worker) run(ctx context.Context) {
	resend := time.NewTimer(0)
	defer resend.Stop()
	due := false // whether it is time to say again what fires
	for {
		s, p, changed := w.now()
		again := s.Type == kindAlertmanager && due
		did, err := w.next(ctx, s, p)
		if again { // also when a message fails: that may be its own fault
			failed := w.resend(ctx, s, p)
			due = failed != nil
			resend.Reset(s.Resend)
			err = cmp.Or(err, failed)
		}
		if ctx.Err() != nil {
			return
		}
		if did && err == nil {
			continue
		}
		var wait, tick <-chan time.Time
		wake := w.queue.Wake()
		if s.Type == kindAlertmanager {
			tick = resend.C
		}
		if err != nil {
			wait, wake = time.After(w.pause(err)), nil
		}
		select {
		case <-ctx.Done():
			return
		case <-wait:
		case <-wake:
		case <-changed:
		case <-tick:
			if due = true; err != nil { // no sooner for that
				select {
				case <-ctx.Done():
					return
				case <-wait:
				case <-changed:
				}
			}
		}
	}
}

// next delivers the next message. It returns false when nothing waits.
func (w *worker) next(ctx context.Context, s Settings, p peer) (did bool, err error) {
	batch := w.queue.Take(messageNotices, messageBytes)
	if len(batch) == 0 {
		return false, nil
	}
	list := make([]waiting, 0, len(batch))
	for _, e := range batch {
		var one waiting
		if err := json.Unmarshal(e.Data, &one); err != nil {
			w.dropped(DroppedRefused, 1, err)
			continue
		}
		if s.takes(&one.Notice) { // the settings may have changed since
			list = append(list, one)
		}
	}
	if len(list) == 0 {
		w.queue.Done(batch)
		return true, nil
	}
	err = w.deliver(ctx, s, p, newMessage(w.o.Node, w.o.Now(), list))
	var final refusal
	var some partly
	switch {
	case err == nil, errors.As(err, &some):
		w.queue.Done(batch)
		w.succeeded(len(list))
		if err != nil {
			w.refused(list, err)
			err = nil
		}
	case errors.As(err, &final) && len(batch) > 1: // which of them is refused?
		w.queue.Return(batch, true)
		err = nil
	case errors.As(err, &final):
		w.queue.Done(batch)
		w.refused(list, err)
		err = nil
	default:
		w.queue.Return(batch, false)
	}
	return true, err
}

// resend tells an alertmanager what fires, so that it does not take it for over. What
// failed is not queued: it is told again.
func (w *worker) resend(ctx context.Context, s Settings, p peer) error {
	var list []waiting
	for _, n := range w.o.firing() {
		if n.State == Firing && s.takes(&n) {
			list = append(list, waiting{Notice: n})
		}
	}
	for len(list) > 0 {
		part := list[:min(len(list), messageNotices)]
		list = list[len(part):]
		err := w.deliver(ctx, s, p, newMessage(w.o.Node, w.o.Now(), part))
		var final refusal
		if errors.As(err, &final) { // the good ones of it are taken all the same
			w.o.Log.Warn("an alertmanager refuses alerts", "sink", s.Name, "error", err)
		} else if err != nil {
			return err
		}
		w.succeeded(0)
	}
	return nil
}

func (w *worker) deliver(ctx context.Context, s Settings, p peer, m *message) error {
	limited, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	return p.deliver(limited, m)
}

// pause counts a failure, and returns how long to wait before the next try.
func (w *worker) pause(err error) time.Duration {
	w.mu.Lock()
	w.failures++
	n := w.failures
	w.status.Failed++
	now := w.o.Now()
	if w.status.Failing.IsZero() {
		w.status.Failing = now
	}
	w.status.LastFailure, w.status.LastError = now, plain(err.Error(), 500)
	name := w.settings.Name
	w.mu.Unlock()
	if n&(n-1) == 0 { // seldom, the longer it lasts
		w.o.Log.Warn("a sink takes no alerts: they wait, and it is tried again", "sink", name, "waiting", w.queue.Len(), "failures", n, "error", plain(err.Error(), 500))
	}
	d := min(mostPause, firstPause<<min(n-1, 10))
	d = d*3/4 + rand.N(d/2) //nolint:gosec // so that many collectors do not come at once
	var asked pause
	if errors.As(err, &asked) {
		d = max(d, asked.after)
	}
	return d
}

func (w *worker) succeeded(n int) {
	w.mu.Lock()
	was := w.failures
	w.failures = 0
	w.status.Delivered += uint64(n)
	w.status.LastSuccess, w.status.Failing = w.o.Now(), time.Time{}
	name := w.settings.Name
	w.mu.Unlock()
	if was > 0 {
		w.o.Log.Info("a sink takes alerts again", "sink", name, "failures", was)
	}
}

// refused counts notices that the other end refuses for good. That it does so is an alert, too
// (Status.LastDropped), which the other end refuses likewise: that is no news.
func (w *worker) refused(list []waiting, err error) {
	w.mu.Lock()
	at, why := w.status.LastDropped, w.status.WhyDropped
	own := "sink:" + w.settings.Name
	w.mu.Unlock()
	w.dropped(DroppedRefused, len(list), err)
	if !slices.ContainsFunc(list, func(one waiting) bool { return one.Notice.Labels["kind"] != own }) {
		w.mu.Lock()
		w.status.LastDropped, w.status.WhyDropped = at, why
		w.mu.Unlock()
	}
}

// dropped counts notices that the other end does not get, and says so: at once, or with those
// of the next minute.
func (w *worker) dropped(reason string, n int, err error) {
	w.mu.Lock()
	w.status.LastDropped, w.status.WhyDropped = w.o.Now(), reason+": "+plain(err.Error(), 300)
	w.status.Dropped[reason] += uint64(n)
	w.unsaid[reason] += n
	w.status.LastFailure, w.status.LastError = w.o.Now(), plain(err.Error(), 500)
	at := w.saying == nil || w.closed
	if at && !w.closed {
		w.timed.Add(1)
		w.saying = time.AfterFunc(time.Minute, func() {
			defer w.timed.Done()
			w.mu.Lock()
			w.saying = nil
			w.mu.Unlock()
			w.sayDropped()
		})
	}
	w.mu.Unlock()
	if at {
		w.sayDropped()
	}
}

func (w *worker) sayDropped() {
	w.mu.Lock()
	unsaid, name, why := w.unsaid, w.settings.Name, w.status.LastError
	w.unsaid = map[string]int{}
	w.mu.Unlock()
	for reason, n := range unsaid {
		w.o.Log.Error("notices of alerts were dropped", "sink", name, "notices", n, "reason", reason, "error", why)
		if w.o.Dropped != nil {
			w.o.Dropped(name, reason, n)
		}
	}
}

func (w *worker) report() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.status
	s.Name, s.Kind, s.Queued = w.settings.Name, w.settings.Type, w.queue.Len()
	s.Dropped = make(map[string]uint64, len(w.status.Dropped))
	for k, v := range w.status.Dropped {
		s.Dropped[k] = v
	}
	if err := w.queue.Unsaved(); err != nil {
		s.Unsaved = plain(err.Error(), 300)
	}
	return s
}

func (w *worker) close() error {
	w.stop()
	w.done.Wait()
	w.mu.Lock()
	w.closed = true
	if w.saying != nil && w.saying.Stop() {
		w.timed.Done()
	}
	w.mu.Unlock()
	w.timed.Wait()
	w.sayDropped()
	return w.queue.Close() // what it drops is said at once
}
