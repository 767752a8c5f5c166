package head

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// proved is a batch of a sender that has proved its name.
func proved(conn int, name string, raws ...string) *journal.Batch {
	b := plain(uint64(conn), raws...)
	b.Sender = journal.Sender{Verified: name, Node: "claims", Addr: peer(conn), Transport: event.TransportTCP}
	return b
}

// kept are the events that a query finds: the host that each is kept under, what its first
// record claims, and whether it is flagged.
func kept(t *testing.T, s scanner, q *query.Query) (out []string) {
	t.Helper()
	q.Origin = true
	if err := s.Scan(t.Context(), q, func(ev *event.Event) error {
		flag := ""
		if ev.Mismatch() {
			flag = " mismatch"
		}
		out = append(out, string(ev.Node)+" claims "+string(ev.Records[0].Node)+flag)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// The collector's own name is its own: in clear text only this machine may use it, whose forwarder may have the
// same one. Else whoever can send could forge what the collector says of who asked what.
func TestOwnName(t *testing.T) {
	t.Parallel()
	change := func(_ *journal.Options, o *Options) {
		o.OwnName, o.OwnAddr = "log1", func(a netip.Addr) bool { return a == peer(1).Addr() }
	}
	dir := t.TempDir()
	r := mustRig(t, dir, change)
	own := plain(3, line("log1", 1, 1, "USER_CMD", "x=1"))
	own.Sender = journal.Sender{Node: "log1", Transport: event.TransportOwn}
	r.put(t, plain(2, line("log1", 1, 2, "USER_CMD", "lie=1"), line("LOG1.", 1, 3, "USER_CMD", "lie=1"), line("web1", 1, 4, "USER_CMD", "x=1")))
	r.put(t, own)
	r.put(t, plain(1, line("log1", 2, 4, "USER_CMD", "x=1")))
	r.put(t, plain(2, line("log1", 3, 5, "USER_CMD", "lie=1")))
	r.settle(t)
	check := func(when string) {
		t.Helper()
		for name, want := range map[string][]string{
			"log1":     {"log1 claims log1", "log1 claims log1"},
			"10.0.0.2": {"10.0.0.2 claims LOG1. mismatch", "10.0.0.2 claims log1 mismatch", "10.0.0.2 claims log1 mismatch"},
			"web1":     {"web1 claims web1"},
		} {
			if d := cmp.Diff(want, kept(t, r.h, &query.Query{Nodes: []string{name}})); d != "" {
				t.Errorf("%s, -n %s (-want +got):\n%s", when, name, d)
			}
		}
	}
	check("in memory")
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	r = mustRig(t, dir, change)
	r.settle(t)
	check("after a restart")
}

// What is proved counts, whatever a record claims; and what is proved can't be claimed by
// somebody who proves nothing, not before a restart, after it, nor once it is stored.
func TestProvedNameCounts(t *testing.T) {
	t.Parallel()
	var got said
	dir := t.TempDir()
	change := func(_ *journal.Options, o *Options) { o.OnNotice = got.add }
	r := mustRig(t, dir, change)
	r.put(t, plain(1, line("web1", 1, 1, "USER_LOGIN", "early=1"))) // before anybody proved it
	r.settle(t)
	r.put(t, proved(2, "web1", line("web1", 2, 2, "USER_LOGIN", "x=1"), line("db1", 2, 3, "USER_LOGIN", "x=1"), "type=USER_LOGIN msg=audit(1795334402.000:4): x=1"))
	r.put(t, plain(1, line("web1", 3, 5, "USER_LOGIN", "lie=1"), line("web3", 3, 6, "USER_LOGIN", "x=1")))
	r.settle(t)
	check := func(when string) {
		t.Helper()
		for name, want := range map[string][]string{
			"web1":     {"web1 claims db1 mismatch", "web1 claims web1", "web1 claims web1", "web1 claims web1"},
			"10.0.0.1": {"10.0.0.1 claims web1 mismatch"},
			"db1":      nil,
			"web3":     {"web3 claims web3"},
		} {
			if d := cmp.Diff(want, kept(t, r.h, &query.Query{Nodes: []string{name}})); d != "" {
				t.Errorf("%s, -n %s (-want +got):\n%s", when, name, d)
			}
		}
		want := []string{"10.0.0.1 claims web1 mismatch", "web1 claims db1 mismatch"}
		if d := cmp.Diff(want, kept(t, r.h, &query.Query{Mismatch: true})); d != "" {
			t.Errorf("%s, what claims to be another's (-want +got):\n%s", when, d)
		}
		for _, h := range r.h.Hosts() {
			want := map[string]uint64{"web1": 1, "10.0.0.1": 1}[h.Name]
			if h.Mismatched != want || h.Verified.IsZero() == (h.Name == "web1") {
				t.Errorf("%s: %s has %d records of others, proved at %v", when, h.Name, h.Mismatched, h.Verified)
			}
		}
	}
	check("in memory")
	if d := cmp.Diff([]string{"other db1 10.0.0.2 invalid IP", "not web1 10.0.0.1 invalid IP"}, got.take()); d != "" {
		t.Errorf("notices (-want +got):\n%s", d)
	}
	if err := r.h.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("stored")
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	r = mustRig(t, dir, change)
	check("after a restart")
	r.put(t, plain(3, line("web1", 9, 9, "USER_LOGIN", "lie=2")))
	r.settle(t)
	if got := kept(t, r.h, &query.Query{Nodes: []string{"10.0.0.3"}}); len(got) != 1 {
		t.Errorf("claimed after a restart: %q", got)
	}
}

// A sender that finds no place of its own must not get among the hosts that go by what
// they claim.
func TestClaimsBeyondTheHosts(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) { o.MaxHosts = 2 })
	r.put(t, proved(1, "web1", line("web1", 1, 1, "USER_LOGIN", "x=1")))
	for i := range 5 {
		r.put(t, plain(uint64(2+i), line("web1", 2+i, 2+i, "USER_LOGIN", "lie=1")))
	}
	r.settle(t)
	if got := kept(t, r.h, &query.Query{Nodes: []string{"web1"}}); len(got) != 1 {
		t.Errorf("-n web1 finds %q", got)
	}
	if got := kept(t, r.h, &query.Query{Mismatch: true}); len(got) != 5 {
		t.Errorf("flagged are %q, want all five", got)
	}
}

// Names that are given to some addresses are kept from others, and the rest is anybody's
// who is asked for.
func TestNamesOfAddresses(t *testing.T) {
	t.Parallel()
	only := func(name string, a netip.Addr) bool { return name == "web1" && a == peer(1).Addr() }
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) { o.MayName = only })
	r.put(t, plain(1, line("web1", 1, 1, "USER_LOGIN", "x=1"), line("web2", 1, 2, "USER_LOGIN", "x=1")))
	r.put(t, plain(2, line("web1", 1, 3, "USER_LOGIN", "x=1"), line("web1", 1, 4, "USER_LOGIN", "x=1"), "type=USER_LOGIN msg=audit(1795334402.000:5): x=1"))
	r.settle(t)
	want := []string{"10.0.0.1 claims web2 mismatch", "10.0.0.2 claims 10.0.0.2", "10.0.0.2 claims web1 mismatch", "10.0.0.2 claims web1 mismatch", "web1 claims web1"}
	if d := cmp.Diff(want, kept(t, r.h, &query.Query{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	r.h.SetMayName(nil)
	r.put(t, plain(2, line("web1", 9, 9, "USER_LOGIN", "x=1")))
	r.settle(t)
	if got := kept(t, r.h, &query.Query{Nodes: []string{"web1"}}); len(got) != 2 {
		t.Errorf("once everybody may: %q", got)
	}
}

// Mismatch is a part of the store's contract by its index: a table and a group find the
// same by it.
func TestMismatchIsIndexed(t *testing.T) {
	t.Parallel()
	conds := store.ConditionsOf(&query.Query{Mismatch: true})
	if len(conds) != 1 || !slices.Equal(conds[0].Fields, []query.Field{query.FieldClaim}) {
		t.Errorf("%+v", conds)
	}
}

// DNS does not tell upper from lower case: a host may call itself in capitals without being
// flagged, and nobody may use its name in capitals, or with a dot behind, who proves nothing.
func TestCaseOfNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := mustRig(t, dir, nil)
	r.put(t, plain(1, line("WEB1", 1, 1, "USER_LOGIN", "early=1"))) // before anybody proved it
	r.put(t, proved(2, "web1", line("WEB1", 2, 2, "USER_LOGIN", "x=1"), line("web1.", 2, 3, "USER_LOGIN", "x=1"), line("web2", 2, 4, "USER_LOGIN", "x=1")))
	check := func() {
		t.Helper()
		r.put(t, plain(1, line("WEB1", 3, 5, "USER_LOGIN", "lie=1"), line("Web1", 3, 6, "USER_LOGIN", "lie=1"), line("web1.", 3, 7, "USER_LOGIN", "lie=1"), line("web12", 3, 8, "USER_LOGIN", "x=1")))
		r.settle(t)
		for name, want := range map[string][]string{
			"web1":     {"web1 claims WEB1", "web1 claims web1.", "web1 claims web2 mismatch"},
			"WEB1":     {"WEB1 claims WEB1"},
			"Web1":     nil,
			"web1.":    nil,
			"10.0.0.1": {"10.0.0.1 claims WEB1 mismatch", "10.0.0.1 claims Web1 mismatch", "10.0.0.1 claims web1. mismatch"},
		} {
			if got := slices.Compact(kept(t, r.h, &query.Query{Nodes: []string{name}})); !slices.Equal(got, want) {
				t.Errorf("-n %s finds %q, want %q", name, got, want)
			}
		}
	}
	check()
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	r = mustRig(t, dir, nil)
	check()
	if _, err := r.h.ChangeHosts(t.Context(), &store.Change{Forget: []string{"web1"}}); err != nil {
		t.Fatal(err)
	}
	r.put(t, plain(1, line("Web1", 4, 9, "USER_LOGIN", "x=1")))
	r.settle(t)
	if got := kept(t, r.h, &query.Query{Nodes: []string{"Web1"}}); len(got) != 1 {
		t.Errorf("once web1 was forgotten, -n Web1 finds %q", got)
	}
}

// A name that is proved from two addresses at once belongs to two hosts, which have one
// certificate or key. A host that moves is none, nor one that is there by IPv4 and IPv6.
func TestProvedNameFromTwoAddresses(t *testing.T) {
	t.Parallel()
	var got said
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) { o.OnNotice = got.add })
	n := 0
	from := func(conn int, d time.Duration, transport event.Transport) {
		n++
		b := later(d, proved(conn, "web1", line("web1", n, n, "USER_LOGIN", "x")))
		b.Sender.Transport = transport
		if conn == 6 {
			b.Sender.Addr = netip.MustParseAddrPort("[2001:db8::1]:60")
		}
		r.put(t, b)
		r.settle(t)
	}
	for i, conn := range []int{1, 2, 1, 3} { // it moves
		from(conn, time.Duration(i)*time.Hour, event.TransportTLS)
	}
	for i, conn := range []int{6, 3, 6, 3} {
		from(conn, 5*time.Hour+time.Duration(i)*time.Second, event.TransportTLS)
	}
	for i, conn := range []int{1, 2, 1, 2} { // the transport says so itself
		from(conn, 6*time.Hour+time.Duration(i)*time.Second, event.TransportGRPC)
	}
	if d := cmp.Diff([]string(nil), got.take()); d != "" {
		t.Errorf("a host that moves (-want +got):\n%s", d)
	}
	twins := func() (n uint64) {
		r.h.EachVitals(func(v *Vitals) { n += v.Twins })
		return n
	}
	if n := twins(); n != 0 {
		t.Errorf("%d signs of two hosts of one that moves", n)
	}
	for i, conn := range []int{1, 2, 1, 2, 1} {
		from(conn, 8*time.Hour+time.Duration(i)*time.Second, event.TransportPSK)
	}
	if d := cmp.Diff([]string{"turns web1 10.0.0.2 10.0.0.1"}, got.take()); d != "" {
		t.Errorf("two hosts (-want +got):\n%s", d)
	}
	if n := twins(); n == 0 {
		t.Error("no sign of two hosts")
	}
}
