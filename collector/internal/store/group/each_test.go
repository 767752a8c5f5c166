package group

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// Each gives a group's events in the order of the table it was made of: by host, then
// time, node and serial, else as they came; the odd ones as they were sent, and whose
// they are.
func TestEach(t *testing.T) {
	t.Parallel()
	c := codec(t)
	tab := fixtureTable(t)
	storetest.Fill(tab, storetest.NewGenerator(5, storetest.Templates(t), 4, storetest.Start), 3000)
	for _, raw := range []string{"", "a\nb", "type=X"} {
		ev := storetest.Parse("web2.example.net", raw)
		ev.From = &event.Sender{Host: "web2"}
		tab.Add("web2.example.net", ev)
	}
	var want []string
	for _, h := range tab.Hosts() {
		for _, i := range h.Order() {
			e := &h.Events[i]
			want = append(want, h.Name+" "+whole(store.ParseText(e.Text, e.Counted, []byte(h.Name), e.Origin)))
		}
	}
	blob, _, err := c.Encode(tab)
	if err != nil {
		t.Fatal(err)
	}
	each := func(blob []byte, most int) (got []string, err error) {
		g, err := c.Open(blob)
		if err != nil {
			return nil, err
		}
		boom := errors.New("boom")
		err = g.Each(func(host string, ev *event.Event) error {
			if len(got) == most {
				return boom
			}
			got = append(got, host+" "+whole(ev))
			return nil
		})
		if errors.Is(err, boom) {
			err = nil
		}
		return got, err
	}
	for _, most := range []int{-1, 0, 17} {
		got, err := each(blob, most)
		if err != nil {
			t.Fatal(err)
		}
		part := want
		if most >= 0 {
			part = want[:most]
		}
		if d := cmp.Diff(part, got); d != "" && (most != 0 || len(got) > 0) {
			t.Errorf("at most %d (-table +group):\n%.2000s", most, d)
		}
	}
	// Damage anywhere is said, unless it is in what is not read: dictionaries.
	g, err := c.Open(blob)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range g.sections {
		if s.kind == secDict {
			continue
		}
		bad := slices.Clone(blob)
		bad[s.off+s.len/2] ^= 1
		if _, err := each(bad, -1); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("a flipped bit in its %s: %v", sectionName(s), err)
		}
	}
}
