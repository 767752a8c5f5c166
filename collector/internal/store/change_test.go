package store_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// A host is forgotten by its name, or by an address that only it is known from; what an
// address's records also belong to is kept of hosts that are known, and of others when
// it says something.
func TestChangeOf(t *testing.T) {
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	hosts := []store.Host{
		{Name: "web1", Addrs: []netip.Addr{one}}, {Name: "web2", Addrs: []netip.Addr{one}}, {Name: "web3", Addrs: []netip.Addr{two, one}},
		{Name: "192.0.2.2", Addrs: []netip.Addr{two}, Records: 7},
	}
	for _, c := range []struct {
		name    string
		change  store.Change
		forget  []string
		changed []store.Host
		err     string
	}{
		{name: "by name, twice", change: store.Change{Forget: []string{"web3", "web3"}}, forget: []string{"web3"}},
		{name: "by address", change: store.Change{Forget: []string{"192.0.2.1"}}, forget: []string{"web1", "web2"}},
		{name: "by address and by its name", change: store.Change{Forget: []string{"::ffff:192.0.2.1", "web1", "192.0.2.2"}}, forget: []string{"192.0.2.2", "web1", "web2"}},
		{name: "who is not there", change: store.Change{Forget: []string{"web9"}}, err: "web9"},
		{name: "also, of one that is known", change: store.Change{Also: map[netip.Addr]string{two: "web3"}},
			changed: []store.Host{{Name: "192.0.2.2", Addrs: []netip.Addr{two}, Records: 7, Also: "web3"}}},
		{name: "also, of one that is not", change: store.Change{Also: map[netip.Addr]string{one: "web1"}}, changed: []store.Host{{Name: "192.0.2.1", Also: "web1"}}},
		{name: "nothing to take back", change: store.Change{Also: map[netip.Addr]string{one: ""}}},
		{name: "a name that is too long", change: store.Change{Also: map[netip.Addr]string{one: strings.Repeat("x", store.MaxName+1)}}, err: "is the most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			forget, changed, err := c.change.Of(hosts)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || (c.change.Also == nil) != errors.Is(err, store.ErrNoHost) {
					t.Errorf("%v, want one that says %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.forget, forget); diff != "" {
				t.Errorf("forgotten (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.changed, changed, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("changed (-want +got):\n%s", diff)
			}
		})
	}
}
