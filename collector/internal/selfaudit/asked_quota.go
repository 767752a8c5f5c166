package selfaudit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/pkg/daemonrec"
)

// Who may ask may ask as often as he likes, and must not fill the disk with that: so many
// records are stored a minute of all askers and of one, where each begun kilobyte beyond the
// first counts as another. The rest is added up, by asker, and said once the minute is over.
// While the disk is too full for what senders send, all are only added up.
//
// Nobody hides another one's: what is refused counts apart, since every host with a certificate may
// have that refused as often as it likes; and an asker has some records of his own, whatever the others do.
const (
	askedPerMinute   = 600
	askedPerAsker    = 300
	askedReserve     = 30 // of an asker, for the first maxAskers of a minute
	refusedPerMinute = 300
	refusedPerAsker  = 60
	// maxAskers bounds how many askers are told apart for what was not stored.
	maxAskers = 64
)

// whoAsks is one who asks, for the quota: a login, or a certificate.
type whoAsks struct {
	auid, name string
	uid        uint32
}

// omitted is what was not stored of an asker.
type omitted struct {
	who     api.Who // of the last call
	calls   map[string]int
	all     int
	refused int
	first   time.Time
	last    time.Time
	// hosts that were asked about, and the times: who floods must not hide what for. allHosts is
	// true where some question was about all hosts; more counts hosts beyond maxOmittedHosts.
	hosts        []string
	allHosts     bool
	more         int
	since, until int64 // 0: open
}

// maxOmittedHosts bounds the hosts that are named of questions without records of their own.
const maxOmittedHosts = 64

// about adds what a question was about.
func (o *omitted) about(a *api.Asked) {
	if o.all == 0 || a.Since < o.since {
		o.since = a.Since
	}
	if o.all == 0 || o.until != 0 && (a.Until == 0 || a.Until > o.until) {
		o.until = a.Until
	}
	o.allHosts = o.allHosts || len(a.Hosts) == 0
	for _, h := range a.Hosts[:min(len(a.Hosts), maxOmittedHosts)] {
		h, _ = short(h, maxHosts)
		switch {
		case slices.Contains(o.hosts, h):
		case len(o.hosts) < maxOmittedHosts:
			o.hosts = append(o.hosts, h)
		default:
			o.more++
		}
	}
}

// hostsText names them: "*" where all were asked about.
func (o *omitted) hostsText() string {
	switch {
	case o.allHosts:
		return "*"
	case o.more > 0:
		return someHosts(append(slices.Clone(o.hosts), make([]string, o.more)...))
	}
	return someHosts(o.hosts)
}

// spent is what was stored in a minute.
type spent struct {
	all int
	by  map[whoAsks]int
}

func (s *spent) add(who whoAsks, cost int) {
	s.all += cost
	s.by[who] += cost
}

// askedQuota bounds the records of calls; guarded by Records.mu.
type askedQuota struct {
	minute  time.Time // in which they are counted
	answers spent
	refused spent
	left    map[whoAsks]*omitted
	say     *time.Timer // says what was left out when the minute is over; nil: nothing was
}

// may reports whether the record of a call may be stored, and counts it otherwise.
func (q *askedQuota) may(r *Records, a *api.Asked, bytes int) bool {
	now := r.cfg.Now()
	if now.Sub(q.minute) >= time.Minute || now.Before(q.minute) {
		q.minute, q.answers, q.refused = now, spent{by: map[whoAsks]int{}}, spent{by: map[whoAsks]int{}}
	}
	who := whoAsks{a.Who.AUID, a.Who.Name, a.Who.UID}
	if q.has(who, a.State == api.StateRefused) && !r.cfg.Refusing() {
		s := &q.answers
		if a.State == api.StateRefused {
			s = &q.refused
		}
		s.add(who, 1+bytes>>10)
		return true
	}
	r.cfg.Metrics.Omitted.Inc()
	if a.State == api.StateBegun {
		return false // its end counts
	}
	q.leave(r, who, a, now)
	return false
}

// has reports whether there is room for a record of an asker.
func (q *askedQuota) has(who whoAsks, refused bool) bool {
	if refused {
		return q.refused.all < refusedPerMinute && q.refused.by[who] < refusedPerAsker
	}
	used, known := q.answers.by[who]
	if used < askedReserve && (known || len(q.answers.by) < maxAskers) {
		return true
	}
	return q.answers.all < askedPerMinute && used < askedPerAsker
}

// leave counts a call of which no record is stored.
func (q *askedQuota) leave(r *Records, who whoAsks, a *api.Asked, now time.Time) {
	o := q.left[who]
	if o == nil && len(q.left) >= maxAskers {
		who = whoAsks{name: "others"}
		o = q.left[who]
	}
	if o == nil {
		o = &omitted{calls: map[string]int{}, first: now}
		if q.left == nil {
			q.left = map[whoAsks]*omitted{}
		}
		q.left[who] = o
	}
	o.who, o.last = a.Who, now
	if who.name == "others" && who.auid == "" {
		o.who = api.Who{UID: 4294967295, AUID: daemonrec.Unset, Session: daemonrec.Unset}
	}
	o.about(a)
	o.all++
	op := a.Op
	if len(o.calls) >= 32 && o.calls[op] == 0 {
		op = "other"
	}
	o.calls[op]++
	if !a.State.Good() {
		o.refused++
	}
	if q.say == nil && !r.closed {
		q.say = time.AfterFunc(time.Minute, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.sayAsked()
		})
	}
}

// sayAsked stores what was left out of each asker; mu is held.
func (r *Records) sayAsked() {
	q := &r.asked
	if q.say == nil {
		return
	}
	q.say.Stop()
	left := q.left
	q.left, q.say = nil, nil
	total := 0
	for _, o := range left {
		total += o.all
		var ops []string
		for op, n := range o.calls {
			ops = append(ops, fmt.Sprintf("%d %s", n, op))
		}
		slices.Sort(ops)
		command := fmt.Sprintf("%d more queries: %s", o.all, strings.Join(ops, ", "))
		if o.who.Name != "" {
			command = "certificate " + o.who.Name + ": " + command
		}
		command, _ = short(command, maxCommand)
		r.add("USER_CMD", "%s", r.from(&o.who, fmt.Sprintf("msg='op=queries-omitted cmd=%s queries=%d failed=%d hosts=%s since=%s until=%s first=%s last=%s state=complete",
			encodeName(command), o.all, o.refused, encodeName(o.hostsText()), stamp(o.since), stamp(o.until), stamp(o.first.UnixMilli()), stamp(o.last.UnixMilli())), "success"))
	}
	r.cfg.Log.Warn("more was asked in a minute than is stored as records of its own: it is added up, by who asked", "queries", total, "askers", len(left))
}
