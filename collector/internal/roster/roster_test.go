package roster

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// list is a store.Roster in memory.
type list struct {
	members  []store.Member
	hosts    []store.MemberHost
	accounts []store.MemberHost
	senders  []store.KV
	behind   map[string]uint64
	gone     []store.HostGone
	most     int // that MemberGone returned at once
	unaged   []store.Part
	begins   bool // what is unaged is not known yet
	entered  []store.MemberHost
	self     store.Member
	err      error
	unsaid   error // of EnterSenders
	since    int64 // that MemberSenders was asked for
	upTo     int64
}

func (l *list) Enter(_ context.Context, m *store.Member) error {
	l.self = *m
	return l.err
}
func (l *list) EnterHosts(_ context.Context, hosts []store.MemberHost) error {
	l.entered = hosts
	return l.err
}
func (l *list) Members(context.Context) ([]store.Member, error) { return l.members, l.err }
func (l *list) MemberHosts(_ context.Context, member string) (out []store.MemberHost, err error) {
	for _, h := range l.hosts {
		if member == "" || h.Store == member {
			out = append(out, h)
		}
	}
	return out, l.err
}
func (l *list) EnterAccounts(_ context.Context, a []store.MemberHost) error {
	l.accounts = a
	return l.err
}
func (l *list) MemberAccounts(context.Context, string, []string) ([]store.MemberHost, error) {
	return slices.Clone(l.accounts), l.err
}
func (l *list) MemberGone(_ context.Context, _ string, hosts []string, since int64) (out []store.HostGone, _ error) {
	for _, g := range l.gone {
		if g.Taken > since && (g.Host == "" || len(hosts) == 0 || slices.Contains(hosts, g.Host)) {
			out = append(out, g)
		}
	}
	l.most = max(l.most, len(out))
	return out, l.err
}
func (l *list) OwnGone(_ context.Context, _ []string, parts []store.Part) (out []store.HostGone, _ error) {
	for _, g := range l.gone {
		if slices.Contains(parts, g.Part) {
			out = append(out, g)
		}
	}
	return out, l.err
}
func (l *list) Unaged(context.Context) ([]store.Part, bool, error) { return l.unaged, !l.begins, l.err }
func (l *list) EnterSenders(_ context.Context, _ int64, changed []store.KV) error {
	l.senders = append(l.senders, changed...)
	return errors.Join(l.err, l.unsaid)
}
func (l *list) MemberSenders(_ context.Context, since int64) (map[string][]store.KV, int64, error) {
	l.since = since
	return map[string][]store.KV{"b": {{Key: []byte("k"), Value: []byte("v")}}}, l.upTo, l.err
}
func (l *list) Behind(context.Context, string, uint64) (map[string]uint64, error) {
	return l.behind, l.err
}
func (l *list) Seen(context.Context, time.Time) (map[string]uint64, error) {
	return map[string]uint64{"b": 3}, l.err
}
func (l *list) Lose(_ context.Context, member string, at int64) error {
	for i := range l.members {
		if l.members[i].Store == member {
			l.members[i].Lost = at
		}
	}
	return l.err
}

// own is a collector with one host.
type own struct{ api.Source }

func (own) Hosts(context.Context) ([]*fleet.Host, error) {
	return []*fleet.Host{{Name: []byte("web1"), Records: 10, LastSeenMs: 100}}, nil
}
func (own) Coverage(_ context.Context, req *fleet.CoverageRequest, fn func(*fleet.Coverage) error) error {
	for _, h := range req.GetHosts() {
		if err := fn(&fleet.Coverage{Host: h, State: "complete", FromMs: 1000, ToMs: 5000}); err != nil {
			return err
		}
	}
	return nil
}

func (own) Tally(_ context.Context, _ *query.Query, fields []query.Field, _ func(*event.Event) error) (*query.Tally, error) {
	return query.NewTally(fields, nil), nil
}

const now = 10_000_000

func opened(l *list, standings ...head.Standing) *Roster {
	return New(Config{
		Roster: l, Self: store.Member{Store: "a", Name: "east"}, Own: own{}, Unaged: l.Unaged, Refresh: func(context.Context) {}, Senders: &Senders{},
		Standings: func() ([]head.Standing, uint64) { return standings, 7 }, Waits: func() bool { return false }, Now: func() time.Time { return time.UnixMilli(now) },
	})
}

// silence has a roster have looked at what is listed for longer than a collector may be silent.
func silence(t *testing.T, r *Roster) {
	t.Helper()
	if _, err := r.members(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, h := range r.heard {
		h.since = h.since.Add(-2 * silentAfter)
		r.heard[id] = h
	}
}

// A collector writes what has changed of hosts, once, and what it remembers of senders when what that speaks of is stored.
func TestEnter(t *testing.T) {
	l := &list{}
	r := opened(l, head.Standing{Host: "web1", Received: 10, Stored: 4})
	r.cfg.Senders.Add(6, []store.KV{{Key: []byte("x"), Value: []byte("1")}})
	r.cfg.Senders.Add(7, []store.KV{{Key: []byte("y"), Value: []byte("2")}})
	l.err = errors.New("away")
	if err := r.Enter(t.Context(), false); err == nil {
		t.Error("the cluster is away, and nothing is said")
	}
	l.err = nil
	l.senders = nil
	if err := r.Enter(t.Context(), false); err != nil || len(l.entered) != 1 || len(l.senders) != 1 || string(l.senders[0].Key) != "x" {
		t.Errorf("%v, %d hosts, senders %v", err, len(l.entered), l.senders)
	}
	if err := r.Enter(t.Context(), true); err != nil || len(l.entered) != 0 || l.self.Stopped || len(l.senders) != 1 {
		t.Errorf("again: %v, %d hosts, %+v, senders %v: it holds records back", err, len(l.entered), l.self, l.senders)
	}
	r = opened(l, head.Standing{Host: "web1", Received: 10, Stored: 10})
	if err := r.Enter(t.Context(), true); err != nil || !l.self.Stopped {
		t.Errorf("all is stored: %v %+v", err, l.self)
	}
	if err := r.CopyAccounts(t.Context()); err != nil || len(l.accounts) != 1 || l.accounts[0].Host != "web1" {
		t.Errorf("accounts: %v %v", err, l.accounts)
	}
}

// Of a collector that is gone what it had received, less what is stored of it, is lost; coverage has that beside its account.
func TestLost(t *testing.T) {
	account, err := proto.Marshal(&fleet.Coverage{Host: []byte("web1"), State: "complete", FromMs: 1000, ToMs: 9000, ByStatementsMs: 8000})
	if err != nil {
		t.Fatal(err)
	}
	l := &list{
		members: []store.Member{{Store: "a", Name: "east", At: now}, {Store: "b", Name: "west", At: now, Taken: 9000}},
		hosts: []store.MemberHost{
			{Store: "b", Host: "web1", Taken: 9000, Batch: 3, Received: 100, Stored: 60, Age: 1000},
			{Store: "b", Host: "db1", Taken: 9000, Batch: 3, Received: 100, Stored: 95, Age: 1000},
			{Store: "b", Host: "app1", Taken: 9000, Batch: 3, Received: 100, Stored: 100},
		},
		accounts: []store.MemberHost{{Host: "web1", Data: account}},
		behind:   map[string]uint64{"web1": 10, "db1": 5},
	}
	r := opened(l)
	if _, _, err := r.Forget(t.Context(), "nobody"); !errors.Is(err, api.ErrNoCollector) {
		t.Errorf("one that nobody knows is forgotten: %v", err)
	}
	silence(t, r)
	ctx, lacking := api.NoteLacks(t.Context())
	asked, err := r.ask(ctx)
	if got := lacking(); err != nil || len(asked.others) != 0 || len(got) != 1 || got[0].Collector != "west" || !got[0].Tail {
		t.Errorf("silent: %v, asked %+v, lacking %+v", err, asked, got)
	}
	c, losses, err := r.Forget(t.Context(), "west")
	if err != nil || c.GetState() != "lost" || len(losses) != 1 || string(losses[0].GetHost()) != "web1" || losses[0].GetRecords() != 30 {
		t.Fatalf("%v, %v, %v", c, losses, err)
	}
	ctx, lacking = api.NoteLacks(t.Context())
	if _, err := r.ask(ctx); err != nil || len(lacking()) != 0 {
		t.Errorf("lost: %v, lacking %v: the account says it", err, lacking())
	}
	gone := &absent{r: r, m: l.members[1]}
	var got []string
	say := func(c *fleet.Coverage) error {
		text := string(c.GetHost()) + " " + c.GetState()
		if c.GetUnheard() {
			text += " unheard"
		}
		for _, x := range c.GetCauses() {
			text += " " + x.GetCause()
		}
		got = append(got, text)
		return nil
	}
	for _, q := range []*fleet.CoverageRequest{
		{Hosts: [][]byte{[]byte("web*"), []byte("nobody")}, Intervals: true},
		{Hosts: [][]byte{[]byte("web1")}, FromMs: 2000, ToMs: 7000},
		{Hosts: [][]byte{[]byte("web1")}, FromMs: 20_000, ToMs: 30_000},
	} {
		if err := gone.Coverage(t.Context(), q, say); err != nil {
			t.Error(err)
		}
	}
	want := []string{"web1 lost collector-lost", "nobody unknown unheard", "web1 complete", "web1 unknown nothing-said"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	l.members[1].At, l.members[1].Lost = now+2, 0 // it is back
	if list, err := r.members(t.Context()); err != nil || r.state(&list[1]) != running {
		t.Errorf("back, and %s, %v", r.state(&list[1]), err)
	}
}

// Hosts shows who has whom, the latest first.
func TestWhoHasWhom(t *testing.T) {
	data, err := proto.Marshal(&fleet.Host{Name: []byte("web1"), Records: 5, LastSeenMs: 200, Connected: true})
	if err != nil {
		t.Fatal(err)
	}
	l := &list{
		members: []store.Member{{Store: "a", Name: "one", At: now}, {Store: "b", Name: "one", At: now}},
		hosts:   []store.MemberHost{{Store: "b", Host: "web1", Received: 5, Stored: 2, Data: data}},
	}
	r := opened(l, head.Standing{Host: "web1", Received: 10, Stored: 10})
	list, err := r.Hosts(t.Context())
	if err != nil || len(list) != 1 || list[0].GetRecords() != 15 || len(list[0].GetAt()) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	at := list[0].GetAt()[0]
	if at.GetCollector() != "one/b" || at.GetReceived() != 5 || at.GetStored() != 2 || !at.GetConnected() {
		t.Errorf("the latest is %v", at)
	}
	ctx, lacking := api.NoteLacks(t.Context())
	l.err = errors.New("away")
	if list, err := r.Hosts(ctx); err != nil || len(list) != 1 || list[0].GetRecords() != 10 || len(lacking()) != 1 {
		t.Errorf("without the cluster: %v, %v, lacking %v", list, err, lacking())
	}
}

// What one collector wrote and nobody can read is said as a lack of it: the others' answers go on, and it can be said to be gone.
func TestUnreadable(t *testing.T) {
	data, err := proto.Marshal(&fleet.Host{Name: []byte("db1"), Records: 5})
	if err != nil {
		t.Fatal(err)
	}
	l := &list{
		members: []store.Member{{Store: "a", Name: "east", At: now}, {Store: "b", At: now, Bad: store.ErrDamaged}},
		hosts:   []store.MemberHost{{Store: "b", Host: "web1", Data: []byte{0xff}}, {Store: "b", Host: "db1", Received: 5, Data: data}},
	}
	r := opened(l, head.Standing{Host: "web1", Received: 10, Stored: 10})
	ctx, lacking := api.NoteLacks(t.Context())
	list, err := r.Hosts(ctx)
	if got := lacking(); err != nil || len(list) != 2 || len(got) != 1 || got[0].Collector != "/b" || !errors.Is(got[0].Err, store.ErrDamaged) {
		t.Errorf("hosts: %v, %v, lacking %v", list, err, got)
	}
	ctx, lacking = api.NoteLacks(t.Context())
	a, err := r.ask(ctx)
	if got := lacking(); err != nil || len(a.others) != 0 || len(a.absent) != 1 || len(got) != 1 || got[0].Why() != store.ErrDamaged.Error() {
		t.Errorf("ask: %v, %+v, lacking %v", err, a, got)
	}
	silence(t, r)
	if c, _, err := r.Forget(t.Context(), "b"); err != nil || c.GetState() != "lost" {
		t.Errorf("forget: %v, %v", c, err)
	}
}

// A copy of an account that cannot be read, or names another host, hides neither the hosts behind it nor what is lost.
func TestDamagedAccount(t *testing.T) {
	other, err := proto.Marshal(&fleet.Coverage{Host: []byte("web9"), State: "complete", FromMs: 1000, ToMs: 9000})
	if err != nil {
		t.Fatal(err)
	}
	l := &list{
		hosts:    []store.MemberHost{{Store: "b", Host: "db1", Taken: 9000, Batch: 3, Received: 100, Stored: 60, Age: 1000}, {Store: "b", Host: "new1", Taken: 9000, Batch: 3, Received: 5, Age: 1000}},
		accounts: []store.MemberHost{{Host: "app1", Taken: 9000, Data: []byte{0xff}}, {Host: "db1", Taken: 9000, Data: []byte{0xff}}, {Host: "web1", Taken: 9000, Data: other}},
	}
	gone := &absent{r: opened(l), m: store.Member{Store: "b", Name: "west", Lost: 9001}}
	ctx, lacking := api.NoteLacks(t.Context())
	var got []string
	err = gone.Coverage(ctx, &fleet.CoverageRequest{}, func(c *fleet.Coverage) error {
		got = append(got, string(c.GetHost())+" "+c.GetState())
		return nil
	})
	if d := cmp.Diff([]string{"app1 unknown", "db1 lost", "web1 complete", "new1 lost"}, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if list := lacking(); len(list) != 1 || list[0].Collector != "west" || !errors.Is(list[0].Err, store.ErrDamaged) {
		t.Errorf("lacking %v", list)
	}
}

// neighbour is another collector, which answers.
type neighbour struct {
	Client
	id    string
	hangs atomic.Bool // in the midst of a Tally, and then for ever
	rest  int         // events that it cannot count
}

func (n *neighbour) Status(ctx context.Context) (*fleet.StatusResponse, error) {
	if n.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &fleet.StatusResponse{StoreId: n.id}, nil
}
func (n *neighbour) Close() error { return nil }
func (n *neighbour) Tally(ctx context.Context, _ *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	for range n.rest {
		if err := rest(&event.Event{}); err != nil {
			return nil, err
		}
	}
	if n.rest == 0 {
		n.hangs.Store(true)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return query.NewTally(fields, nil), nil
}

// What a collector writes counts more than what it wrote before, though its clock was ahead then, and than that it was said to be gone.
func TestClockAhead(t *testing.T) {
	l := &list{members: []store.Member{{Store: "a", At: now + 3_600_000, Lost: now + 3_600_001, Stopped: true}}}
	r := opened(l, head.Standing{Host: "web1", Received: 10, Stored: 10})
	last := int64(now + 3_600_001)
	for range 2 {
		if err := r.Enter(t.Context(), false); err != nil || l.self.At <= last || l.self.At > last+2 || len(l.entered) == 1 && l.entered[0].At <= last {
			t.Errorf("%v, written as of %d, hosts %+v", err, l.self.At, l.entered)
		}
		last = l.self.At
	}
	if err := r.CopyAccounts(t.Context()); err != nil || len(l.accounts) != 1 || l.accounts[0].At <= l.self.At {
		t.Errorf("%v, accounts %+v", err, l.accounts)
	}
}

// A collector is gone by its own clock, so that its next word undoes it; one that answers is not.
func TestForgetClocks(t *testing.T) {
	l := &list{members: []store.Member{{Store: "a", Name: "east", At: now}, {Store: "b", Name: "west", At: now - 3_600_000, Address: "west:1"}}}
	r := opened(l)
	silence(t, r)
	there := &neighbour{id: "b"}
	r.cfg.Dial = func(context.Context, string) (Client, error) { return there, nil }
	if _, _, err := r.Forget(t.Context(), "west"); !errors.Is(err, api.ErrNoCollector) || l.members[1].Lost != 0 {
		t.Errorf("one that answers is forgotten: %v, %+v", err, l.members[1])
	}
	there.id = "another"
	if _, _, err := r.Forget(t.Context(), "west"); err != nil || l.members[1].Lost != l.members[1].At+1 {
		t.Errorf("%v, %+v", err, l.members[1])
	}
}

// While the cluster takes nothing what is learned of senders is put together: each key once, the last value, behind the last batch that it came with.
func TestSendersAway(t *testing.T) {
	l := &list{}
	r := opened(l)
	for batch := range uint64(1000) {
		r.cfg.Senders.Add(batch, []store.KV{{Key: []byte{byte(batch % 10)}, Value: []byte(strconv.FormatUint(batch, 10))}})
		if batch%100 == 99 { // it is stored, and cannot be written
			l.err = errors.New("away")
			if err := r.enterSenders(t.Context(), now, batch-50, false); batch < 100 && err == nil {
				t.Error("nothing is said")
			}
		}
	}
	kept := 0
	for _, x := range r.cfg.Senders.learned {
		kept += len(x.changed)
	}
	if len(r.cfg.Senders.learned) > learnedApart+1 || kept > 10*(learnedApart+1) {
		t.Errorf("%d batches with %d keys are kept", len(r.cfg.Senders.learned), kept)
	}
	l.err, l.senders = nil, nil
	if err := r.enterSenders(t.Context(), now, 999, false); err != nil || slices.ContainsFunc(l.senders, func(kv store.KV) bool { return string(kv.Value) >= "990" && len(kv.Value) == 3 }) {
		t.Errorf("%v, of a batch that is not stored: %v", err, l.senders)
	}
	if err := r.enterSenders(t.Context(), now, 1000, false); err != nil || len(r.cfg.Senders.learned) != 0 {
		t.Errorf("%v, left %v", err, r.cfg.Senders.learned)
	}
	last := map[string]string{}
	for _, kv := range l.senders {
		last[string(kv.Key)] = string(kv.Value)
	}
	for i := range 10 {
		if got := last[string([]byte{byte(i)})]; got != strconv.Itoa(990+i) {
			t.Errorf("key %d is %s", i, got)
		}
	}
}

// A report goes on without a collector that stops answering, and keeps no more of what another one cannot count than it may.
func TestTallyBounds(t *testing.T) {
	l := &list{members: []store.Member{{Store: "a", Name: "east", At: now}, {Store: "b", Name: "west", At: now, Address: "west:1"}}}
	r := opened(l)
	there := &neighbour{id: "b"}
	r.cfg.Dial = func(context.Context, string) (Client, error) { return there, nil }
	r.wait = 200 * time.Millisecond
	ctx, lacking := api.NoteLacks(t.Context())
	_, err := r.Tally(ctx, &query.Query{}, nil, nil)
	if got := lacking(); err != nil || len(got) != 1 || got[0].Collector != "west" {
		t.Errorf("%v, lacking %v", err, got)
	}
	there.hangs.Store(false)
	there.rest = 10
	r.wait = askWait
	given := 0
	rest := func(*event.Event) error { given++; return nil }
	if _, err := r.Tally(t.Context(), &query.Query{Memory: query.NewMemory(5*restBytes, nil)}, nil, rest); !errors.Is(err, query.ErrMemory) || given != 0 {
		t.Errorf("%v, %d events", err, given)
	}
	if _, err := r.Tally(t.Context(), &query.Query{Memory: query.NewMemory(20*restBytes, nil)}, nil, rest); err != nil || given != 10 {
		t.Errorf("%v, %d events", err, given)
	}
}

// A collector that has stopped by its last word, or is said to be gone, is asked if it answers: it could not write that it runs.
func TestStillThere(t *testing.T) {
	for _, m := range []store.Member{{Store: "b", Name: "west", At: now, Address: "west:1", Stopped: true}, {Store: "b", Name: "west", At: now, Address: "west:1", Lost: now + 1}} {
		l := &list{members: []store.Member{{Store: "a", Name: "east", At: now}, m}}
		r := opened(l)
		there, dials := &neighbour{id: "b"}, 0
		r.cfg.Dial = func(context.Context, string) (Client, error) { dials++; return there, nil }
		if a, err := r.ask(t.Context()); err != nil || len(a.others) != 1 || a.others[0].Name != "west" || len(a.absent) != 0 {
			t.Errorf("it answers: %v, %+v", err, a)
		}
		r = opened(l)
		dials = 0
		r.cfg.Dial = func(context.Context, string) (Client, error) { dials++; return nil, errors.New("refused") }
		for range 3 {
			if a, err := r.ask(t.Context()); err != nil || len(a.others) != 0 || len(a.absent) != 1 {
				t.Errorf("it does not answer: %v, %+v", err, a)
			}
		}
		if dials != 1 {
			t.Errorf("it was tried %d times for three questions at once", dials)
		}
		l.members[1].At++
		if _, err := r.ask(t.Context()); err != nil || dials != 2 {
			t.Errorf("it has written since, and was tried %d times: %v", dials, err)
		}
	}
}

// That a collector runs is written although what it remembers of senders is not taken, and that is said.
func TestEnterWithoutSenders(t *testing.T) {
	l := &list{unsaid: errors.New("no room")}
	r := opened(l)
	r.cfg.Senders.Add(1, []store.KV{{Key: []byte("x")}})
	if err := r.Enter(t.Context(), false); !errors.Is(err, l.unsaid) || l.self.Store != "a" {
		t.Errorf("%v, written %+v", err, l.self)
	}
}
