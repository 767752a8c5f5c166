package group

import (
	"os"
	"slices"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// TestReadOtherwiseBefore asks a group that v0.1.0 wrote (testdata/v2-before.group) for what
// that version did not read of its events: records of new types, names in hex or with a
// space, values of another record than the one that counts.
func TestReadOtherwiseBefore(t *testing.T) {
	c := codec(t)
	blob, err := os.ReadFile("testdata/v2-before.group")
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.Open(blob)
	if err != nil {
		t.Fatal(err)
	}
	if v := c.Verify(blob); len(v.Findings) > 0 {
		t.Errorf("verify finds %v", v.Findings)
	}
	term := func(op query.Op, text string, f ...query.Field) query.Term {
		return query.Term{Op: op, Text: text, Fields: f}
	}
	anywhere := func(name string, term query.Term) query.Filter {
		return query.Filter{Term: &term, Field: &query.FieldTest{Name: name}}
	}
	for _, tt := range []struct {
		name    string
		q       query.Query
		serials []uint64
	}{
		{"key of an io_uring operation", query.Query{Terms: []query.Term{term(query.OpContains, "ring", query.FieldKey)}}, []uint64{1}},
		{"its uid", query.Query{Terms: []query.Term{term(query.OpEqual, "1000", query.FieldUID)}}, []uint64{1}},
		{"its type", query.Query{Types: []uint32{1336}}, []uint64{1}},
		{"comm of a device mapper's", query.Query{Terms: []query.Term{term(query.OpEqual, "dmsetup", query.FieldComm)}}, []uint64{2}},
		{"name in hex", query.Query{Terms: []query.Term{term(query.OpUser, "domain user", query.FieldAUIDName)}}, []uint64{3}},
		{"part of it", query.Query{Terms: []query.Term{term(query.OpRegexp, "^domain ", query.FieldAUIDName)}}, []uint64{3}},
		{"name with a space", query.Query{Terms: []query.Term{term(query.OpUser, `DOM\some user`, query.FieldAUIDName)}}, []uint64{4}},
		{"plain name", query.Query{Terms: []query.Term{term(query.OpUser, "root", query.FieldUIDName)}}, []uint64{3, 4}},
		{"the sender's uid", query.Query{Filters: []query.Filter{anywhere("uid", term(query.OpLessEqual, "4", query.FieldUID))}}, []uint64{2, 3, 4, 6}},
		{"comm of a record that is not read", query.Query{Filters: []query.Filter{anywhere("comm", term(query.OpEqual, "bpftool", query.FieldComm))}}, []uint64{5}},
		{"nothing", query.Query{Terms: []query.Term{term(query.OpEqual, "nowhere", query.FieldComm)}}, nil},
	} {
		cands, err := g.Plan(&tt.q, store.ConditionsOf(&tt.q))
		if err != nil {
			t.Fatal(err)
		}
		var got []uint64
		m := query.NewMatcher(&tt.q)
		for _, cand := range cands {
			frame, err := g.Text(nil, cand.Block.Frame)
			if err != nil {
				t.Fatal(err)
			}
			text, err := cand.Block.Cut(frame)
			if err != nil {
				t.Fatal(err)
			}
			for i := range cand.Block.Events {
				var one []byte
				if one, text, err = store.CutText(text, cand.Block.Counted); err != nil {
					t.Fatal(err)
				}
				if cand.Want != nil && !slices.Contains(cand.Want, i) {
					continue
				}
				if ev := store.ParseText(one, cand.Block.Counted, []byte(cand.Block.Host), store.Origin{}); m.Match(ev) {
					got = append(got, ev.Serial)
				}
			}
		}
		if !slices.Equal(got, tt.serials) {
			t.Errorf("%s: events %v, want %v", tt.name, got, tt.serials)
		}
	}
	sum := query.NewTally([]query.Field{query.FieldKey}, nil)
	out, err := g.Tally(&query.Query{}, []query.Field{query.FieldKey}, sum)
	if err != nil || len(out.Rest) == 0 || sum.Events != 0 {
		t.Errorf("%d events counted from dictionaries that lack keys, %v", sum.Events, err)
	}
}
