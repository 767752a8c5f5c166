package head

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// said are the notices a head gives.
type said struct {
	mu   sync.Mutex
	list []string
}

func (s *said) add(n Notice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, fmt.Sprintf("%s %s %s %v", []string{"new", "turns", "many", "other", "not"}[n.Kind], n.Name, n.Addr, n.Was))
}

func (s *said) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.list
	s.list = nil
	return out
}

// later is a batch that was received so much later.
func later(d time.Duration, b *journal.Batch) *journal.Batch {
	b.Received = b.Received.Add(d)
	return b
}

// A name that moves once is noticed once, one that comes from two addresses by turns
// once an hour; a restart, and another connection of the same host, never.
func TestNamesThatMove(t *testing.T) {
	t.Parallel()
	var got said
	dir := t.TempDir()
	change := func(_ *journal.Options, o *Options) { o.OnNotice = got.add }
	r := mustRig(t, dir, change)
	n := 0
	from := func(conn int, d time.Duration) {
		n++
		r.put(t, later(d, plain(uint64(conn), line("web1", n, n, "USER_LOGIN", "x"))))
		r.settle(t)
	}
	expect := func(why string, want ...string) {
		t.Helper()
		if d := cmp.Diff(want, got.take()); d != "" {
			t.Errorf("%s (-want +got):\n%s", why, d)
		}
	}
	from(1, 0)
	from(1, time.Minute)
	expect("at home")
	from(2, 2*time.Minute)
	from(2, 3*time.Minute)
	expect("moved by DHCP", "new web1 10.0.0.2 10.0.0.1")
	r.close()
	r = mustRig(t, dir, change)
	from(2, 4*time.Minute)
	expect("after a restart")
	for i := range 10 {
		from(1+i%2, time.Duration(5+i)*time.Minute)
	}
	expect("by turns", "turns web1 10.0.0.1 10.0.0.2")
	from(1, 90*time.Minute)
	expect("by turns, an hour later", "turns web1 10.0.0.1 10.0.0.2")
	if c := r.h.Stats().AddressChanges; c != 11 {
		t.Errorf("%d changes are counted, want 11", c)
	}
	own := plain(1, line("collector", 1, 1, "DAEMON_START", "x"))
	own.Sender = journal.Sender{Node: "collector", Transport: event.TransportOwn}
	r.put(t, own)
	r.put(t, plain(9, line("collector", 2, 2, "DAEMON_END", "x")))
	r.settle(t)
	expect("the collector's own name", "new collector 10.0.0.9 invalid IP")
	n = 100
	for i := range 100 {
		r.put(t, plain(uint64(300+i), line("web1", n+i, n+i, "USER_LOGIN", "x")))
	}
	r.settle(t)
	if list := got.take(); len(list) > noticesMinute {
		t.Errorf("%d notices within a minute, %d is the most", len(list), noticesMinute)
	}
}

// An address that invents names brings so many a day; its other records are kept and
// found, and what others send is as before.
func TestNewNamesAreBounded(t *testing.T) {
	t.Parallel()
	var got said
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) { o.NewNames, o.OnNotice = 100, got.add })
	b := plain(1)
	const all = 20000
	for i := range all {
		b.Records = append(b.Records, journal.Record{Raw: []byte(line(fmt.Sprintf("invented-%d", i), i, 1, "USER_LOGIN", "x"))})
	}
	r.put(t, b)
	r.put(t, plain(2, line("honest", 1, 1, "USER_LOGIN", "x"), line("honest", 2, 2, "USER_LOGIN", "x")))
	r.settle(t)
	if n := len(r.h.Hosts()); n != 100+1+1 {
		t.Errorf("%d hosts, want 100, the one for all others and the honest one", n)
	}
	if x := hostNamed(t, r.h, "honest"); x.Records != 2 {
		t.Errorf("the honest host: %+v", x)
	}
	if n := len(texts(t, r.h, &query.Query{})); n != all+2 {
		t.Errorf("%d events, want %d", n, all+2)
	}
	if n := len(texts(t, r.h, &query.Query{Nodes: []string{"invented-19999"}})); n != 1 {
		t.Errorf("a name beyond the bound finds %d events", n)
	}
	if d := cmp.Diff([]string{"many invented-100 10.0.0.1 invalid IP"}, got.take()); d != "" {
		t.Errorf("notices (-want +got):\n%s", d)
	}
	if s := r.h.Stats(); s.NamesRefused != all-100 || s.Mixed != all-100 {
		t.Errorf("%d names refused and %d records stored together are counted, want %d", s.NamesRefused, s.Mixed, all-100)
	}
	r.put(t, later(12*time.Hour, plain(1, line("half-a-day-later", 1, 1, "USER_LOGIN", "x"))))
	r.settle(t)
	hostNamed(t, r.h, "half-a-day-later")
}

// Names are forgotten one by one, or all that came from an address; what was stored
// under an address is found as another host's when that was said. Both outlive a
// restart, and neither changes a record.
func TestChangeHosts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := mustRig(t, dir, nil)
	noNode := "type=USER_LOGIN msg=audit(1795334400.000:1): pid=1"
	r.put(t, plain(1, line("a", 1, 1, "USER_LOGIN", "x"), line("b", 1, 1, "USER_LOGIN", "x")), plain(2, line("c", 1, 1, "USER_LOGIN", "x")), plain(3, noNode))
	r.settle(t)
	ctx := context.Background()
	if _, err := r.h.ChangeHosts(ctx, &store.Change{Forget: []string{"c", "nobody"}}); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("a host that is not there: %v", err)
	}
	gone, err := r.h.ChangeHosts(ctx, &store.Change{Forget: []string{"10.0.0.1"}, Also: map[netip.Addr]string{netip.MustParseAddr("10.0.0.3"): "web9"}})
	if err != nil || !slices.Equal(gone, []string{"a", "b"}) {
		t.Fatalf("%q, %v", gone, err)
	}
	for _, when := range []string{"at once", "after a restart"} {
		if when != "at once" {
			r.close()
			r = mustRig(t, dir, nil)
		}
		var names []string
		for _, x := range r.h.Hosts() {
			names = append(names, x.Name)
		}
		if d := cmp.Diff([]string{"10.0.0.3", "c"}, names); d != "" {
			t.Errorf("%s (-want +got):\n%s", when, d)
		}
		for node, want := range map[string]int{"a": 1, "web9": 1, "10.0.0.3": 1} {
			if got := texts(t, r.h, &query.Query{Nodes: []string{node}}); len(got) != want {
				t.Errorf("%s, %s: %q", when, node, got)
			}
		}
	}
	if _, err := r.h.ChangeHosts(ctx, &store.Change{Also: map[netip.Addr]string{netip.MustParseAddr("10.0.0.3"): ""}}); err != nil {
		t.Fatal(err)
	}
	if got := texts(t, r.h, &query.Query{Nodes: []string{"web9"}}); len(got) != 0 {
		t.Errorf("taken back: %q", got)
	}
	n := len(r.h.Hosts())
	if _, err := r.h.ChangeHosts(ctx, &store.Change{Also: map[netip.Addr]string{netip.MustParseAddr("10.0.0.99"): ""}}); err != nil || len(r.h.Hosts()) != n {
		t.Errorf("taken back what never was: %v, %+v", err, r.h.Hosts())
	}
}

// Who sent an event and when it was received is known from memory, from the store,
// from one that is read without a server, and by those who follow.
func TestOrigins(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := mustRig(t, dir, nil)
	followed := make(chan string, 8)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	whose := func(ev *event.Event) string {
		text := fmt.Sprintf("%d from %v", ev.Serial, ev.From.Addr)
		for i := range ev.Records {
			text += fmt.Sprintf(" +%d", ev.Records[i].Received-storetest.Start.UnixMilli())
		}
		return text
	}
	began := make(chan struct{})
	go func() {
		var once sync.Once
		_ = r.h.Follow(ctx, &query.Query{}, func(ev *event.Event) error {
			followed <- whose(ev)
			return nil
		}, func(uint64) error {
			once.Do(func() { close(began) })
			return nil
		})
	}()
	<-began
	r.put(t, plain(1, line("web1", 1, 1, "SYSCALL", "x")))
	r.put(t, later(7*time.Millisecond, plain(1, line("web1", 1, 1, "PROCTITLE", "x"))))
	r.put(t, later(9*time.Millisecond, plain(2, line("web1", 1, 2, "USER_LOGIN", "x"))))
	want := []string{"1 from 10.0.0.1 +0 +7", "2 from 10.0.0.2 +9"}
	check := func(why string, h *Head) {
		t.Helper()
		var got []string
		err := h.Scan(context.Background(), &query.Query{Origin: true}, func(ev *event.Event) error {
			got = append(got, whose(ev))
			return nil
		})
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", why, err, d)
		}
		if got := texts(t, h, &query.Query{From: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/31")}}); len(got) != 1 {
			t.Errorf("%s: from 10.0.0.2/31: %q", why, got)
		}
	}
	waitFor(t, "both", slices.Sorted(slices.Values([]string{line("web1", 1, 1, "SYSCALL", "x"), line("web1", 1, 1, "PROCTITLE", "x"), line("web1", 1, 2, "USER_LOGIN", "x")})), r.h)
	check("in memory", r.h)
	for _, w := range want {
		if got := <-followed; got != w {
			t.Errorf("followed: %s, want %s", got, w)
		}
	}
	r.settle(t)
	check("stored", r.h)
	r.close()
	r = mustRig(t, dir, nil)
	check("reopened", r.h)
}
