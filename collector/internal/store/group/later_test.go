package group

import (
	"os"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// TestFieldsThatCameLater: of a group written before a field was indexed, any event
// may have a value of it; of one written since, those only that do. What a name is
// not in, no block of a new group is unpacked for.
func TestFieldsThatCameLater(t *testing.T) {
	c := codec(t)
	old, err := os.ReadFile("testdata/v1.group")
	if err != nil {
		t.Fatal(err)
	}
	tab := fixtureTable(t)
	tab.Add("web1", storetest.Parse("web1", "node=web1 type=SYSCALL msg=audit(1795334400.000:1): arch=c000003e syscall=2 pid=7 gid=900\x1dGID=\"wheel\""))
	added, _, err := c.Encode(tab)
	if err != nil {
		t.Fatal(err)
	}
	none := store.NewTable()
	none.Add("web1", storetest.Parse("web1", "node=web1 type=SYSCALL msg=audit(1795334400.000:1): arch=c000003e syscall=2 pid=7 gid=900"))
	without, _, err := c.Encode(none)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		blob   []byte
		group  string
		blocks int // that may have it, -1 is all
	}{
		{"old", old, "wheel", -1},
		{"old", old, "no such group", -1},
		{"new", added, "wheel", 1},
		{"new", added, "no such group", 0},
		{"new, of events without groups", without, "wheel", 0},
	} {
		g, err := c.Open(tc.blob)
		if err != nil {
			t.Fatal(err)
		}
		q := &query.Query{Terms: []query.Term{{Fields: []query.Field{query.FieldGIDName}, Op: query.OpUser, Text: tc.group}}}
		cands, err := g.Plan(q, store.ConditionsOf(q))
		if err != nil {
			t.Fatal(err)
		}
		if want := tc.blocks; want < 0 && len(cands) != g.numBlocks() || want >= 0 && len(cands) != want {
			t.Errorf("%s: %d of %d blocks are candidates for %s", tc.name, len(cands), g.numBlocks(), tc.group)
		}
		for _, cand := range cands {
			if cand.Want != nil {
				t.Errorf("%s: only events %v of block %d for %s", tc.name, cand.Want, cand.Index, tc.group)
			}
		}
		if v := c.Verify(tc.blob); len(v.Findings) > 0 {
			t.Errorf("%s: verify finds %v", tc.name, v.Findings)
		}
	}
}
