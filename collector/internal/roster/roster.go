package roster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/several"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// silentAfter is how long a collector may write nothing before it is not asked any more, and shown as silent.
const silentAfter = 30 * time.Second

// askWait is how long another collector may answer nothing.
const askWait = 10 * time.Second

// Config of Open.
type Config struct {
	Roster store.Roster
	Self   store.Member // At is set each time
	// Own is this collector alone, with what it finds in the cluster.
	Own api.Source
	// Standings says how far the own hosts' records are stored, and Refresh has all counted that is acknowledged.
	Standings func() (list []head.Standing, batch uint64)
	// Unaged is store.Listed's.
	Unaged func(context.Context) (parts []store.Part, known bool, err error)
	// Waits says that batches wait for the cluster.
	Waits   func() bool
	Refresh func(context.Context)
	// Dial connects to the gRPC port of another collector; nil where this one has no certificate.
	Dial func(ctx context.Context, address string) (Client, error)
	// Senders is what this collector remembers of senders, and Adopt has it remember what another one does; nil: nothing is.
	Senders *Senders
	Adopt   func(member string, changed []store.KV) error
	Log     hclog.Logger
	Now     func() time.Time
}

// Client is another collector.
type Client interface {
	several.Collector
	Status(context.Context) (*fleet.StatusResponse, error)
}

// Roster is this collector among the others. Any number of goroutines may use it.
type Roster struct {
	cfg  Config
	wait time.Duration // askWait but in tests
	look time.Duration // lookEvery but in tests

	entering sync.Mutex // one enters hosts at a time; taken before the others
	entered  map[string]entry

	adopted int64 // up to when, by the servers' clock; of Adopt's caller

	numbering sync.Mutex // guards at
	at        int64      // what is written next has a greater number; 0: that is not known yet

	mu      sync.Mutex        // guards what follows
	last    time.Time         // of when the hosts are that were entered last, or when this roster was made
	news    map[string]bool   // hosts of which something came since their account was written
	clients map[string]Client // by address
	heard   map[string]heard  // by store; nil: nobody has looked yet
	tried   map[string]tried  // by store
}

// entry is what was written of a host.
type entry struct {
	store.MemberHost
	since time.Time // when the first record that is not stored may have come
}

// New returns a roster that nothing is written to before Enter.
func New(cfg Config) *Roster {
	return &Roster{cfg: cfg, wait: askWait, look: lookEvery, entered: map[string]entry{}, last: time.Now(), news: map[string]bool{}, clients: map[string]Client{}, tried: map[string]tried{}}
}

// Enter writes what this collector has of hosts of which something has changed, and behind it what it is. stopped says that it ends in good order: it is
// written that it has, unless it holds something back.
func (r *Roster) Enter(ctx context.Context, stopped bool) error {
	held, err := r.enter(ctx, stopped)
	return errors.Join(err, r.say(ctx, stopped && !held))
}

// say writes what this collector is, and with it that it runs, or has stopped. It waits for nothing that takes long.
func (r *Roster) say(ctx context.Context, stopped bool) (err error) {
	m := r.cfg.Self
	if m.At, err = r.clock(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	m.Behind = time.Since(r.last).Milliseconds()
	r.mu.Unlock()
	m.Stopped = stopped
	return r.cfg.Roster.Enter(ctx, &m)
}

// enter writes what this collector remembers of senders, and has of hosts. It reports whether it holds something back, or may: where what it has is not written.
func (r *Roster) enter(ctx context.Context, stopped bool) (held bool, err error) {
	r.entering.Lock()
	defer r.entering.Unlock()
	r.cfg.Refresh(ctx)
	own, err := r.cfg.Own.Hosts(ctx)
	if err != nil {
		return true, err
	}
	begun := time.Now()
	r.mu.Lock()
	last := r.last
	r.mu.Unlock()
	standings, batch := r.cfg.Standings()
	now, err := r.clock(ctx)
	if err != nil {
		return true, err
	}
	of := map[string]*fleet.Host{}
	for _, h := range own {
		of[string(h.GetName())] = h
	}
	var changed []entry
	held = r.cfg.Waits()
	for _, s := range standings {
		held = held || s.Stored < s.Received
		was, known := r.entered[s.Host]
		h := of[s.Host]
		if h == nil {
			h = &fleet.Host{Name: []byte(s.Host)} // it came since
		}
		quiet := proto.Clone(h).(*fleet.Host)
		quiet.Rate = nil // changes all the time, and is asked for by nobody
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(quiet)
		if err != nil {
			return true, err
		}
		is := entry{MemberHost: store.MemberHost{Store: r.cfg.Self.Store, Host: s.Host, At: now, Batch: batch, Received: s.Received, Stored: s.Stored, Data: data}}
		if is.Held() > 0 {
			if is.since = was.since; is.since.IsZero() {
				is.since = last // it came behind what was written last
			}
			is.Age = max(1, time.Since(is.since).Milliseconds())
		}
		if known && was.Received == is.Received && was.Stored == is.Stored && string(was.Data) == string(data) {
			continue
		}
		changed = append(changed, is)
	}
	unsaid := r.enterSenders(ctx, now, batch, stopped && !held)
	hosts := make([]store.MemberHost, len(changed))
	for i := range changed {
		hosts[i] = changed[i].MemberHost
	}
	if err := r.cfg.Roster.EnterHosts(ctx, hosts); err != nil {
		return true, errors.Join(err, unsaid)
	}
	r.mu.Lock()
	for _, h := range changed {
		r.entered[h.Host], r.news[h.Host] = h, true
	}
	r.last = begun
	r.mu.Unlock()
	return held, unsaid
}

// clock returns the number of what is written next: the time, but always later than that of what this collector wrote before, also in an earlier run and when the machine's
// clock was ahead: of two rows the later one counts. Nothing else is told by it.
func (r *Roster) clock(ctx context.Context) (int64, error) {
	r.numbering.Lock()
	defer r.numbering.Unlock()
	if r.at == 0 {
		members, err := r.members(ctx)
		if err != nil {
			return 0, err
		}
		for i := range members {
			if m := &members[i]; m.Store == r.cfg.Self.Store {
				r.at = max(m.At, m.Lost)
			}
		}
	}
	r.at = max(r.cfg.Now().UnixMilli(), r.at+1)
	return r.at, nil
}

// Close ends the connections to the others.
func (r *Roster) Close() (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.clients {
		err = errors.Join(err, c.Close())
	}
	clear(r.clients)
	return err
}

// names gives each collector a name that no other has: where several have one, with the beginning of the ID of its store.
func names(list []store.Member) map[string]string {
	count := map[string]int{}
	for i := range list {
		count[list[i].Name]++
	}
	out := map[string]string{}
	for i := range list {
		m := &list[i]
		out[m.Store] = m.Name
		if count[m.Name] > 1 || m.Name == "" {
			out[m.Store] = fmt.Sprintf("%s/%.8s", m.Name, m.Store)
		}
	}
	return out
}

// find returns the collector that a name, or the ID of its store, stands for.
func find(list []store.Member, name string) (*store.Member, error) {
	called := names(list)
	var found []*store.Member
	for i := range list {
		if m := &list[i]; m.Store == name || called[m.Store] == name {
			found = append(found, m)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	var all []string
	for _, n := range called {
		all = append(all, n)
	}
	slices.Sort(all)
	return nil, fmt.Errorf("%w: %.200q; there are %.1000v", api.ErrNoCollector, name, all)
}
