package store_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

func TestChange(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	hosts := []store.Host{
		{Name: "web1", Addrs: []netip.Addr{addr("192.0.2.1")}},
		{Name: "web2", Addrs: []netip.Addr{addr("192.0.2.1"), addr("192.0.2.2")}}, // it moved
		{Name: "192.0.2.3", Addrs: []netip.Addr{addr("192.0.2.3")}},
		{Name: "*"}, // a peer calls itself what it likes
	}
	for _, c := range []struct {
		what    string
		change  store.Change
		forget  []string
		changed []string // name=also
		err     string
	}{
		{"nothing", store.Change{}, nil, nil, ""},
		{"a name", store.Change{Forget: []string{"web2"}}, []string{"web2"}, nil, ""},
		{"an address is all that are known from there only", store.Change{Forget: []string{"::ffff:192.0.2.1", "web1"}}, []string{"web1"}, nil, ""},
		{"an address that is a name", store.Change{Forget: []string{"192.0.2.3"}}, []string{"192.0.2.3"}, nil, ""},
		{"nobody", store.Change{Forget: []string{"web1", "web9"}}, nil, nil, "no such host is known"},
		{"a pattern", store.Change{Forget: []string{"web*"}}, []string{"web1", "web2"}, nil, ""},
		{"a pattern and one that it has", store.Change{Forget: []string{"web?", "web1"}}, []string{"web1", "web2"}, nil, ""},
		{"a pattern that is a name", store.Change{Forget: []string{"*"}}, []string{"*"}, nil, ""},
		{"a pattern of none", store.Change{Forget: []string{"web1", "mail*"}}, nil, nil, `known: none is like "mail*"`},
		{"an address of one that moved", store.Change{Forget: []string{"192.0.2.2"}}, nil, nil, "no such host is known"},
		{"whose records these are", store.Change{Also: map[netip.Addr]string{addr("192.0.2.3"): "web1"}}, nil, []string{"192.0.2.3=web1"}, ""},
		{"of a sender that is not known yet", store.Change{Also: map[netip.Addr]string{addr("192.0.2.9"): "web1"}}, nil, []string{"192.0.2.9=web1"}, ""},
		{"taken back", store.Change{Also: map[netip.Addr]string{addr("192.0.2.3"): ""}}, nil, []string{"192.0.2.3="}, ""},
		{"taken back where nothing was said", store.Change{Also: map[netip.Addr]string{addr("192.0.2.9"): ""}}, nil, nil, ""},
		{"too long", store.Change{Also: map[netip.Addr]string{addr("192.0.2.3"): strings.Repeat("x", store.MaxName+1)}}, nil, nil, "255 is the most"},
	} {
		forget, changed, err := c.change.Resolve(hosts)
		if err != nil || c.err != "" {
			if err == nil || c.err == "" || !strings.Contains(err.Error(), c.err) || strings.Contains(c.err, "known") != errors.Is(err, store.ErrNoHost) {
				t.Errorf("%s: %v, want %q", c.what, err, c.err)
			}
			continue
		}
		var got []string
		for _, h := range changed {
			got = append(got, h.Name+"="+h.Also)
		}
		if !slices.Equal(forget, c.forget) || !slices.Equal(got, c.changed) {
			t.Errorf("%s: forget %v, change %v; want %v, %v", c.what, forget, got, c.forget, c.changed)
		}
	}
}

func TestParts(t *testing.T) {
	t.Parallel()
	day, err := store.ParseDay("2026-11-22")
	if err != nil {
		t.Fatal(err)
	}
	parts := []store.Part{{Day: -1, N: 1}, {Day: day, N: 1}, {Day: day, N: 2}, {Day: day, N: 10}, {Day: day + 1, N: 1}}
	names := []string{"1969-12-31", "2026-11-22", "2026-11-22.2", "2026-11-22.10", "2026-11-23"}
	for i, p := range parts {
		back, err := store.ParsePart(p.String())
		if p.String() != names[i] || err != nil || back != p || store.DayOf(p.Day.Time()) != p.Day {
			t.Errorf("%+v is %q, read again %+v, %v", p, p, back, err)
		}
	}
	shuffled := []store.Part{parts[3], parts[4], parts[1], parts[0], parts[2]}
	slices.SortFunc(shuffled, store.Part.Compare)
	if d := cmp.Diff(parts, shuffled); d != "" {
		t.Errorf("in order (-want +got):\n%s", d)
	}
	for _, bad := range []string{"", "2026-11-22.", "2026-11-22.1", "2026-11-22.02", "2026-11-22.x", "2026-11-22.-3", "2026-13-01", "2026-11-22 ", "26-11-22"} {
		if p, err := store.ParsePart(bad); err == nil {
			t.Errorf("%q is taken for %+v", bad, p)
		}
	}
}
