package hold

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// cluster is what some collectors share: what each has on hold, and who asks before a part is dropped.
type cluster struct {
	texts map[string]string
	err   error
}

// member is one collector's access to it.
type member struct {
	events
	c    *cluster
	id   string
	asks func(context.Context, *store.PartStats, map[string]string) string
}

func (m *member) Shared() store.Shared { return m }
func (m *member) ShareHolds(_ context.Context, text string) error {
	if m.c.err == nil {
		m.c.texts[m.id] = text
	}
	return m.c.err
}
func (m *member) OthersHolds(context.Context) (map[string]string, error) {
	others := map[string]string{}
	for id, text := range m.c.texts {
		if id != m.id && text != "" {
			others[id] = text
		}
	}
	return others, m.c.err
}
func (m *member) HoldBy(fn func(context.Context, *store.PartStats, map[string]string) string) {
	m.asks = fn
}

// What is on hold at one of several collectors is so at each, by the same words: days, patterns, and the hosts whose records count as those of one on hold, which only the one knows. What
// none has on hold may be dropped, though all of them have something.
func TestShare(t *testing.T) {
	t.Parallel()
	e := events{"2026-11-20": {"web1", "db1"}, "2026-11-21": {"db1"}, "2026-11-21.2": {"WEB1."}, "2026-11-22": {""}, "2026-11-23": {"192.0.2.7"}, "2026-11-24": {"mail"}}
	parts := []*store.PartStats{part("2026-11-20", 1), part("2026-11-21", 1), part("2026-11-21", 2), part("2026-11-22", 1), part("2026-11-23", 1), part("2026-11-24", 1), part("2026-11-25", 1)}
	held := func(k *Keep) (out []string) {
		for _, p := range parts {
			if k.Why(t.Context(), p) != "" {
				out = append(out, p.String())
			}
		}
		return out
	}
	for _, add := range []string{"", "2026-11-21", "2026-11-21..2026-11-23", "web1", "web?", "Mail", "2026-11-30 db1", "192.0.2.*"} {
		c := &cluster{texts: map[string]string{}}
		keep := func(id, add string, also map[string]string) (*Keep, *member) {
			m := &member{events: e, c: c, id: id}
			s := Open(fsys.OS, t.TempDir(), &kept{})
			if add != "" {
				mustChange(t, s, Change{Add: strings.Fields(add)})
			}
			k := NewKeep(s, m, func() map[string]string { return also })
			k.Guard()
			return k, m
		}
		a, _ := keep("a", add, map[string]string{"192.0.2.7": "web1"})
		want := held(a)
		b, asked := keep("b", "2026-11-19", map[string]string{"mail": "web1"}) // what it takes for another says nothing of a's hosts
		for range 2 {
			for _, k := range []*Keep{a, b} {
				if err := k.Share(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := held(b); !slices.Equal(got, want) {
			t.Errorf("%q on hold at the one: %q; at the other: %q", add, want, got)
		}
		if got := held(a); !slices.Equal(got, want) {
			t.Errorf("%q on hold: %q, and before the other told its own %q", add, got, want)
		}
		for _, p := range parts {
			others, _ := asked.OthersHolds(t.Context())
			if is := asked.asks(t.Context(), p, others) != ""; is != slices.Contains(want, p.String()) {
				t.Errorf("%q on hold: asked right before %s is dropped: %v", add, p, is)
			}
		}
		// Told by who does not know which hosts count as others: any may.
		s := Open(fsys.OS, t.TempDir(), &kept{})
		if add != "" {
			mustChange(t, s, Change{Add: strings.Fields(add)})
		}
		if err := NewKeep(s, &member{events: e, c: c, id: "a"}, nil).Share(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := held(b); strings.ContainsAny(add, "wMd*") && len(got) != len(parts) || !strings.ContainsAny(add, "wMd*") && !slices.Equal(got, want) {
			t.Errorf("%q on hold, by whom no collector knows: %q", add, got)
		}
		c.texts["a"] = "{"
		if got := held(b); len(got) != len(parts) {
			t.Errorf("what cannot be read holds %q", got)
		}
		c.texts["a"], c.err = "", fmt.Errorf("away")
		if got, err := held(b), a.Share(t.Context()); len(got) != len(parts) || err == nil {
			t.Errorf("the others are away: %q on hold, told: %v", got, err)
		}
	}
}
