package roster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/several"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// A collector's account of its hosts (collector/internal/ledger) is its own, and is in its folder. Of one that runs the others ask for it; of one that does not they
// go by a copy in the cluster, of what the account says of each host's whole time, up to its last word.

// copyEvery is how often a collector writes what its account says of hosts of which something came: that reads all of their rows.
const copyEvery = 2 * time.Minute

// copyHosts is how many hosts' accounts are written at once, and of how many what was dropped is read at once.
const copyHosts = 500

// dropsBack is how long before an account's copy was taken a drop may have been told that the copy does not have: what is told goes before the mark by which the part is dropped, what
// a copy has was read before it was taken, and the servers' clocks may differ. One that the copy has is not said twice.
const dropsBack = 10 * time.Minute

// CopyAccounts writes what the account says of the hosts of which something came since that was done last. Right behind a start, while it is not known which drops the account has, it
// writes nothing: who reads a copy takes it to have all that were made some time before.
func (r *Roster) CopyAccounts(ctx context.Context) error {
	own, known, err := r.account(ctx)
	if err != nil || !known {
		return err
	}
	r.mu.Lock()
	names := make([][]byte, 0, len(r.news))
	for name := range r.news {
		if name != "" {
			names = append(names, []byte(name))
		}
	}
	r.news = map[string]bool{}
	r.mu.Unlock()
	at, err := r.clock(ctx)
	for some := range slices.Chunk(names, copyHosts) {
		if err == nil {
			err = r.copyAccounts(ctx, own, at, some)
		}
		if err != nil {
			r.mu.Lock()
			for _, name := range names {
				r.news[string(name)] = true
			}
			r.mu.Unlock()
			return err
		}
	}
	return nil
}

func (r *Roster) copyAccounts(ctx context.Context, own *account, at int64, names [][]byte) error {
	var list []store.MemberHost
	err := own.Coverage(ctx, &fleet.CoverageRequest{Hosts: names, Intervals: true, Own: true}, func(c *fleet.Coverage) error {
		if c.GetUnheard() {
			return nil
		}
		b, err := proto.Marshal(c)
		list = append(list, store.MemberHost{Host: string(c.GetHost()), At: at, Data: b})
		return err
	})
	if err != nil {
		return err
	}
	return r.cfg.Roster.EnterAccounts(ctx, list)
}

// absent is the account of a collector that does not run, as it lies in the cluster.
type absent struct {
	api.Source
	r *Roster
	m store.Member
}

// About implements query.Source.
func (a *absent) About(context.Context) (query.About, error) { return query.About{Indexed: true}, nil }

// Close implements io.Closer.
func (a *absent) Close() error { return nil }

// Coverage implements api.Source. What is lost with a collector that is gone for good is part of it.
func (a *absent) Coverage(ctx context.Context, req *fleet.CoverageRequest, fn func(*fleet.Coverage) error) error {
	var names []string
	pattern := false
	for _, n := range req.GetHosts() {
		names = append(names, string(n))
		pattern = pattern || query.IsPattern(string(n))
	}
	if pattern {
		names = nil
	}
	list, err := a.r.cfg.Roster.MemberAccounts(ctx, a.m.Store, names)
	if err != nil {
		return err
	}
	lost := map[string]loss{}
	if a.m.Lost != 0 {
		if lost, err = a.r.losses(ctx, a.m.Store); err != nil {
			return err
		}
	}
	any, heard := false, make([]bool, len(req.GetHosts()))
	wanted := func(host string) (yes bool) {
		for i, n := range req.GetHosts() {
			if query.Like(string(n), host) {
				heard[i], yes = true, true
			}
		}
		return yes || len(heard) == 0
	}
	give := func(c *fleet.Coverage, gone []store.HostGone, since int64, l loss, is bool) error {
		any = true
		whole := c
		if c.ToMs > 0 {
			whole = within(c, gone, since, req.GetFromMs(), req.GetToMs())
		}
		if is && (req.GetToMs() == 0 || l.from <= req.GetToMs()) && l.to >= req.GetFromMs() {
			if whole == nil {
				whole = &fleet.Coverage{Host: c.GetHost(), FromMs: l.from, ToMs: l.to}
			}
			several.WithLoss(whole, l.records, l.from, l.to)
		}
		if whole == nil { // nothing came of it then
			to := req.GetToMs()
			if to == 0 {
				to = a.r.cfg.Now().UnixMilli()
			}
			whole = several.Unsaid(c.GetHost(), req.GetFromMs(), to)
		}
		if !req.GetIntervals() {
			whole.Intervals = nil
		}
		return fn(whole)
	}
	one := func(h *store.MemberHost, gone []store.HostGone) error {
		c := &fleet.Coverage{}
		if err := proto.Unmarshal(h.Data, c); err != nil {
			err = fmt.Errorf("%w: its account of the host %.200q: %w", store.ErrDamaged, h.Host, err)
			api.Lacks(ctx, api.Lack{Collector: cmp.Or(a.m.Name, a.m.Store), Part: true, Err: err})
			to := a.r.cfg.Now().UnixMilli()
			c = several.Unsaid(nil, min(h.Taken, to-1), to)
		}
		c.Host = []byte(h.Host) // whatever it says of itself
		l, is := lost[h.Host]
		delete(lost, h.Host)
		return give(c, gone, dropsSince(h), l, is)
	}
	list = slices.DeleteFunc(list, func(h store.MemberHost) bool { return !wanted(h.Host) })
	// Those of about one time together: what was dropped is read since the oldest of them.
	slices.SortStableFunc(list, func(x, y store.MemberHost) int { return cmp.Compare(x.Taken, y.Taken) })
	for some := range slices.Chunk(list, copyHosts) {
		gone, err := a.gone(ctx, some)
		if err != nil {
			return err
		}
		for i := range some {
			if err := one(&some[i], slices.Concat(gone[some[i].Host], gone[""])); err != nil {
				return err
			}
		}
	}
	for host, l := range lost { // of which no account was written yet
		if host != "" && wanted(host) {
			if err := give(&fleet.Coverage{Host: []byte(host), FromMs: l.from, ToMs: max(l.to, l.from+1)}, nil, 0, l, true); err != nil {
				return err
			}
		}
	}
	if !any && len(heard) == 0 {
		return fn(&fleet.Coverage{Unheard: true, State: "unknown"})
	}
	for i, n := range req.GetHosts() {
		if !heard[i] {
			if err := fn(&fleet.Coverage{Host: n, Unheard: true, State: "unknown"}); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropsSince is since when what was dropped may not be in the copy of an account.
func dropsSince(copied *store.MemberHost) int64 { return copied.Taken - dropsBack.Milliseconds() }

// gone is what was dropped of some hosts since their accounts were copied, the first of them first, by host; of "": it may be any host.
func (a *absent) gone(ctx context.Context, accounts []store.MemberHost) (map[string][]store.HostGone, error) {
	hosts := make([]string, len(accounts))
	for i := range accounts {
		hosts[i] = accounts[i].Host
	}
	list, err := a.r.cfg.Roster.MemberGone(ctx, a.m.Store, hosts, dropsSince(&accounts[0]))
	return byHost(list), err
}

// byHost divides a list, which it sorts.
func byHost(list []store.HostGone) map[string][]store.HostGone {
	slices.SortStableFunc(list, func(x, y store.HostGone) int { return cmp.Compare(x.Host, y.Host) })
	by := map[string][]store.HostGone{}
	for len(list) > 0 {
		n := slices.IndexFunc(list, func(g store.HostGone) bool { return g.Host != list[0].Host })
		if n < 0 {
			n = len(list)
		}
		by[list[0].Host], list = list[:n], list[n:]
	}
	return by
}

// within is the part of an account's copy of a time. What was dropped of the host since it was made, whose collector did not write that any more, is not there; where the begin is
// open the answer begins behind that, as the collector's own does.
func within(c *fleet.Coverage, gone []store.HostGone, at, from, to int64) *fleet.Coverage {
	drops := dropsOf(gone, at)
	open := from == 0
	if open {
		drops = slices.DeleteFunc(drops, func(d several.Drop) bool { return !d.Key })
		for i := range gone {
			if g := &gone[i]; g.Taken > at && !store.IsKeyClass(g.Class) {
				from = max(from, g.ToMs+1)
			}
		}
	}
	whole := several.Within(c, from, to)
	if whole != nil {
		several.WithDrops(whole, drops, open)
	}
	return whole
}

// dropsOf makes drops of what parts had of a host that were dropped behind a time, by hours, as accounts count them: those that touch are one.
func dropsOf(gone []store.HostGone, at int64) (out []several.Drop) {
	for i := range gone {
		g := &gone[i]
		if g.Taken <= at || g.ToMs == 0 {
			continue
		}
		out = append(out, several.Drop{From: g.FromMs - g.FromMs%ledger.Hour, To: g.ToMs - g.ToMs%ledger.Hour + ledger.Hour, At: g.At, Key: store.IsKeyClass(g.Class)})
	}
	slices.SortFunc(out, func(a, b several.Drop) int { return cmp.Or(order(a.Key, b.Key), cmp.Compare(a.From, b.From)) })
	n := 0
	for _, d := range out {
		if n > 0 && out[n-1].Key == d.Key && d.From <= out[n-1].To {
			out[n-1].To, out[n-1].At = max(out[n-1].To, d.To), max(out[n-1].At, d.At)
			continue
		}
		out[n] = d
		n++
	}
	return out[:n]
}

// order puts false before true.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// account is this collector itself. Its account has what came on each day, and of which class that is, so drops are in there some time after the last part of a day, or of a class of
// a day, is gone. What was dropped by then, and what was dropped of those that go on (by size, or ended by command), is added to its answers.
type account struct {
	api.Source
	r      *Roster
	unaged []store.Part // that the account may not have as dropped
}

// account returns this collector's account for one answer; known is false where it may lack drops.
func (r *Roster) account(ctx context.Context) (_ *account, known bool, err error) {
	parts, known, err := r.cfg.Unaged(ctx)
	return &account{r.cfg.Own, r, parts}, known, err
}

// Coverage implements api.Source.
func (a *account) Coverage(ctx context.Context, req *fleet.CoverageRequest, fn func(*fleet.Coverage) error) error {
	var names []string
	for _, n := range req.GetHosts() {
		if query.IsPattern(string(n)) {
			names = nil
			break
		}
		names = append(names, string(n))
	}
	list, err := a.r.cfg.Roster.OwnGone(ctx, names, a.unaged)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return a.Source.Coverage(ctx, req, fn)
	}
	gone := byHost(list)
	whole := proto.CloneOf(req)
	whole.Intervals, whole.Note = true, false
	return a.Source.Coverage(ctx, whole, func(c *fleet.Coverage) error {
		if of := slices.Concat(gone[string(c.GetHost())], gone[""]); len(of) > 0 && !c.GetUnheard() {
			if x := within(c, of, 0, req.GetFromMs(), req.GetToMs()); x != nil {
				x.UpMs, x.DownMs = c.GetUpMs(), c.GetDownMs()
				c = x
			}
		}
		if !req.GetIntervals() {
			c.Intervals = nil
		}
		if req.GetNote() {
			if c = api.Lacking(c); c == nil {
				return nil
			}
		}
		return fn(c)
	})
}

// Coverage implements api.Source.
func (r *Roster) Coverage(ctx context.Context, req *fleet.CoverageRequest, fn func(*fleet.Coverage) error) error {
	account, _, err := r.account(ctx)
	if err != nil {
		return err
	}
	if req.GetOwn() {
		return account.Coverage(ctx, req, fn)
	}
	a, err := r.ask(ctx)
	if err != nil {
		return err
	}
	if len(a.others)+len(a.absent) == 0 {
		return account.Coverage(ctx, req, fn)
	}
	own := []several.Collector{&part{account, a.seen, false}}
	for _, m := range a.absent {
		own = append(own, &absent{r: r, m: m})
	}
	s, err := r.together(ctx, a, own...)
	if err != nil {
		return err
	}
	err = s.Coverage(ctx, req, fn)
	return errors.Join(err, r.lacking(ctx, s), s.Close())
}
