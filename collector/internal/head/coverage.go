package head

import (
	"context"
	"errors"
	"hash/fnv"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// senderID tells senders apart for the ledger: by the name that they have proved, else by
// address. It is kept over restarts.
func senderID(s *journal.Sender) uint64 {
	h := fnv.New64a()
	if s.Verified != "" {
		h.Write([]byte("name " + s.Verified))
	} else if addr := s.IP(); addr.IsValid() {
		b := addr.As16()
		h.Write(b[:])
	}
	return h.Sum64()
}

// entries returns the host's part of the ledger, and has it stored with the present table. mu is
// held.
func (h *Head) entries(x *host) *ledger.Host {
	if x.ledger == nil {
		x.ledger = ledger.NewHost()
	}
	if !x.entered {
		x.entered = true
		h.entered = append(h.entered, x)
	}
	return x.ledger
}

// takeLedger returns what the ledger got since the last call: with all, also the rows of running hours, which
// are else kept with what is followed of their hosts. mu is held.
func (h *Head) takeLedger(all bool) []store.HostLedger {
	if !keepsLedger {
		return nil
	}
	if all { // also of hosts of which nothing came
		for _, x := range h.hosts {
			if x.holdsRows() {
				h.entries(x)
			}
		}
	}
	out := append(make([]store.HostLedger, 0, len(h.entered)+len(h.farewell)), h.farewell...)
	h.farewell = nil
	now := h.opts.Now().UnixMilli()
	for _, x := range h.entered {
		x.entered = false
		l := store.HostLedger{Host: x.Name}
		if all {
			l.Rows = x.ledger.Take(now)
		} else {
			l.Rows = x.ledger.TakeOver(now)
		}
		l.Tracker = x.ledger.Encode()
		out = append(out, l)
	}
	h.entered = h.entered[:0]
	return out
}

// holdsRows reports whether any host has rows that the store has not.
func (h *Head) holdsRows() bool {
	for _, x := range h.hosts {
		if x.holdsRows() {
			return true
		}
	}
	return false
}

func (x *host) holdsRows() bool { return x.ledger != nil && x.ledger.Holds() }

// loadLedger takes over what the store followed of the hosts.
func (h *Head) loadLedger(list []store.KV) {
	for _, kv := range list {
		x := h.hosts[string(kv.Key)]
		if x == nil {
			continue
		}
		l, err := ledger.Restore(kv.Value)
		if err != nil {
			h.opts.Logger.Warn("what is followed of a host's completeness cannot be read: it begins anew, and what was before is unknown", "host", x.Name, "error", err)
			continue
		}
		l.Restarted(x.Last.UnixMilli())
		x.ledger = l
	}
}

// CoverageQuery asks whether hosts' trails are complete in a time.
type CoverageQuery struct {
	Want     func(host string) bool // nil: all; called with no lock held
	From, To int64                  // milliseconds since 1970; 0: from a host's first word, to its last
}

const (
	// coverageHosts is how many hosts are looked up at once: what a question has in memory is
	// their rows, some MB for a year.
	coverageHosts = 64
	// coverageAtOnce is how many questions are looked up at once.
	coverageAtOnce = 4
)

// Completeness answers for each host that is known or has rows, by name.
func (h *Head) Completeness(ctx context.Context, q CoverageQuery) (list []*ledger.Answer, err error) {
	err = h.EachAnswer(ctx, q, func(a *ledger.Answer) error {
		list = append(list, a)
		return nil
	})
	return list, err
}

// EachAnswer calls fn with what Completeness returns, host by host, and holds a few hosts' rows at
// a time. An error of fn, and the end of ctx, end it.
func (h *Head) EachAnswer(ctx context.Context, q CoverageQuery, fn func(*ledger.Answer) error) error {
	names, err := h.answerFor(ctx, q)
	if err != nil {
		return err
	}
	ask := ledger.Question{From: q.From, To: q.To, Now: h.opts.Now().UnixMilli(), Damaged: h.damaged()}
	if ask.Kept, err = h.keptFrom(ctx); err != nil {
		return err
	}
	for some := range slices.Chunk(names, coverageHosts) {
		list, err := h.answers(ctx, some, ask)
		if err != nil {
			return err
		}
		for _, a := range list {
			if err := fn(a); err != nil {
				return err
			}
		}
	}
	return nil
}

// answerFor returns the hosts that a question is about, by name: those that are known, and those that
// were forgotten and have rows.
func (h *Head) answerFor(ctx context.Context, q CoverageQuery) ([]string, error) {
	may := map[string]bool{} // whether a host is one that can be asked about
	h.mu.Lock()
	if h.j != nil {
		h.sweep(h.opts.Now())
	}
	for _, x := range h.hosts {
		own := len(x.Addrs) == 0 && x.Verified.IsZero() // the collector's records of itself
		may[x.Name] = x != h.mixed && !(own && q.Want == nil)
	}
	h.mu.Unlock()
	err := h.place.LedgerHosts(ctx, func(host []byte) {
		if _, known := may[string(host)]; !known {
			may[string(host)] = true
		}
	})
	// Not with the lock held: whoever asks may have thousands of patterns.
	var names []string
	for name, yes := range may {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if yes && name != "" && (q.Want == nil || q.Want(name)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, err
}

// known is what the head has of a host beside the store.
type known struct {
	followed ledger.Followed
	first    int64
	rows     []*ledger.Row
	batches  []uint64 // that the rows will be stored with
}

// answers answers for some hosts.
func (h *Head) answers(ctx context.Context, names []string, ask ledger.Question) ([]*ledger.Answer, error) {
	select {
	case h.asked <- struct{}{}:
		defer func() { <-h.asked }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	parts, stored, id, err := h.look(ctx, names, ask)
	if err != nil {
		return nil, err
	}
	out := make([]*ledger.Answer, 0, len(names))
	for _, name := range names {
		p, rows := parts[name], stored[name]
		for i, row := range p.rows {
			if p.batches[i] > id {
				rows = append(rows, row)
			}
		}
		ask := ask
		ask.First = p.first
		if p.first >= ask.Kept {
			ask.Kept = 0
		}
		out = append(out, ledger.Judge(name, rows, p.followed, ask))
	}
	return out, nil
}

// looks is how often memory and store are looked at for what belongs together. The store reads first
// what is written, so a second look is seldom and a third hardly ever needed.
const looks = 10

// look returns what memory has of hosts, and what rows the store had then, up to a batch. A batch that
// was cut and stored in between has the rows of hours that are over, and leaves those of running hours in
// memory, changed: then it looks again.
func (h *Head) look(ctx context.Context, names []string, ask ledger.Question) (parts map[string]*known, stored map[string][]*ledger.Row, id uint64, err error) {
	to := ask.To
	if to == 0 {
		to = ask.Now + ledger.Day
	}
	from, to := ledger.Look(ask.From, to)
	for range looks {
		var active uint64
		parts, active = h.memory(names, ask.Now)
		stored = map[string][]*ledger.Row{}
		id, err = h.place.Ledger(ctx, names, from, to, func(host string, row *ledger.Row) { stored[host] = append(stored[host], row) })
		if err != nil || id < active {
			break
		}
	}
	return parts, stored, id, err
}

// memory returns what is known of hosts and not in the store yet, and the batch that it will be stored with.
// It is asked before the store, so that nothing is missed in between.
func (h *Head) memory(names []string, now int64) (parts map[string]*known, active uint64) {
	parts = make(map[string]*known, len(names))
	for _, name := range names {
		parts[name] = &known{}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.waiting {
		for i := range g.ledger {
			p := parts[g.ledger[i].Host]
			if p == nil {
				continue
			}
			for _, row := range g.ledger[i].Rows {
				p.rows, p.batches = append(p.rows, row), append(p.batches, g.id)
			}
		}
	}
	for name, p := range parts {
		x := h.hosts[name]
		if x == nil {
			continue
		}
		if !x.First.IsZero() {
			p.first = x.First.UnixMilli()
		}
		if x.ledger == nil {
			continue
		}
		p.followed = x.ledger.Followed()
		for _, row := range x.ledger.Pending(now) {
			p.rows, p.batches = append(p.rows, row), append(p.batches, h.active.id)
		}
	}
	return parts, h.active.id
}

// damaged is what the store has lost, as far as it knows when that was.
func (h *Head) damaged() (list []ledger.Damage) {
	for _, err := range h.events.Missing() {
		var d store.Damage
		if !errors.As(err, &d) {
			continue
		}
		if from, to, n, hosts := d.Extent(); to > 0 {
			x := ledger.Damage{From: from, To: to, N: n, One: hosts == 1}
			var of store.HostDamage
			if errors.As(err, &of) {
				x.Host = of.Host()
			}
			list = append(list, x)
		}
	}
	return list
}

// keptFrom is when the first day begins of which the store still has events; 0: there is none.
func (h *Head) keptFrom(ctx context.Context) (int64, error) {
	st, err := h.events.Stats(ctx)
	if err != nil || len(st.Parts) == 0 {
		return 0, err
	}
	return st.Parts[0].Day.Time().UnixMilli(), nil
}
