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
	g := openFixture(t, "v2-before")
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
		got, _ := found(t, g, &tt.q)
		if !slices.Equal(got, tt.serials) {
			t.Errorf("%s: events %v, want %v", tt.name, got, tt.serials)
		}
	}
	sum := query.NewTally([]query.Field{query.FieldKey}, nil)
	out, err := g.Tally(&query.Query{}, []query.Field{query.FieldKey}, sum)
	if err != nil || len(out.Rest) == 0 || sum.Events != 0 {
		t.Errorf("%d events counted from dictionaries that lack keys, %v", sum.Events, err)
	}
	g = openFixture(t, "v2")
	unlessNamed := []query.Field{query.FieldAUID, query.FieldUnnamed}
	sum = query.NewTally(unlessNamed, nil)
	if out, err := g.Tally(&query.Query{}, unlessNamed, sum); err != nil || len(out.Rest) == 0 || sum.Events != 0 {
		t.Errorf("%d events counted where names are not all known, %v", sum.Events, err)
	}
}

// TestResultReadOtherwiseBefore asks a group that a version before 4 wrote
// (testdata/v3-before.group) for its events' results. That version took the last decision
// of an AVC record for the result, whatever the system call had said: of events 1, 2, 5 and
// 7 its dictionaries have another result than this program reads.
func TestResultReadOtherwiseBefore(t *testing.T) {
	g := openFixture(t, "v3-before")
	result := func(v string) *query.Query {
		return &query.Query{Terms: []query.Term{term(query.OpEqual, v, query.FieldSuccess)}}
	}
	for _, tt := range []struct {
		name            string
		q               *query.Query
		serials, looked []uint64 // those found, and those that had to be looked at
	}{
		{"no", result("no"), []uint64{1, 2, 5, 6}, []uint64{1, 2, 3, 5, 6, 7, 8}},
		{"yes", result("yes"), []uint64{3, 4, 8}, []uint64{1, 2, 3, 4, 5, 7, 8}},
		{"another field", &query.Query{Terms: []query.Term{term(query.OpEqual, "k", query.FieldKey)}}, []uint64{1, 3, 4, 6}, []uint64{1, 3, 4, 6}},
	} {
		got, looked := found(t, g, tt.q)
		if !slices.Equal(got, tt.serials) || !slices.Equal(looked, tt.looked) {
			t.Errorf("%s: events %v of %v, want %v of %v", tt.name, got, looked, tt.serials, tt.looked)
		}
	}
	for _, f := range []query.Field{query.FieldSuccess, query.FieldShape, query.FieldKey} {
		sum := query.NewTally([]query.Field{f}, nil)
		out, err := g.Tally(&query.Query{}, []query.Field{f}, sum)
		if counts := f == query.FieldKey; err != nil || (sum.Events > 0) != counts || len(out.Rest) > 0 == counts {
			t.Errorf("%s: %d events counted, %d blocks to read, %v", f, sum.Events, len(out.Rest), err)
		}
	}
}

// TestStrayQuoteReadOtherwiseBefore asks a group that a version before 4 wrote
// (testdata/v3-stray.group) for values in hex with a quote or a bracket behind them, which
// that version took as they stand.
func TestStrayQuoteReadOtherwiseBefore(t *testing.T) {
	g := openFixture(t, "v3-stray")
	for _, tt := range []struct {
		name            string
		q               query.Term
		serials, looked []uint64
	}{
		{"key", term(query.OpEqual, "key", query.FieldKey), []uint64{1, 2}, []uint64{1, 2, 5}},
		{"part of one", term(query.OpContains, "ey", query.FieldKey), []uint64{1, 2}, []uint64{1, 2, 5}},
		{"first of two", term(query.OpEqual, "k1", query.FieldKey), []uint64{3, 5}, []uint64{1, 3, 5}},
		{"comm", term(query.OpEqual, "a b?", query.FieldComm), []uint64{3}, []uint64{3}},
		{"file", term(query.OpContains, "/a b/", query.FieldFile), []uint64{4}, []uint64{4}},
		{"another field", term(query.OpEqual, "901", query.FieldPID), []uint64{1, 2, 3, 4, 5}, []uint64{1, 2, 3, 4, 5}},
		{"exe", term(query.OpEqual, "key", query.FieldExe), nil, nil},
	} {
		got, looked := found(t, g, &query.Query{Terms: []query.Term{tt.q}})
		if !slices.Equal(got, tt.serials) || !slices.Equal(looked, tt.looked) {
			t.Errorf("%s: events %v of %v, want %v of %v", tt.name, got, looked, tt.serials, tt.looked)
		}
	}
	for _, f := range []query.Field{query.FieldKey, query.FieldComm, query.FieldExe, query.FieldShape} {
		sum := query.NewTally([]query.Field{f}, nil)
		out, err := g.Tally(&query.Query{}, []query.Field{f}, sum)
		if counts := f == query.FieldExe || f == query.FieldShape; err != nil || (sum.Events > 0) != counts || len(out.Rest) > 0 == counts {
			t.Errorf("%s: %d events counted, %d blocks to read, %v", f, sum.Events, len(out.Rest), err)
		}
	}
}

func term(op query.Op, text string, f ...query.Field) query.Term {
	return query.Term{Op: op, Text: text, Fields: f}
}

// openFixture opens a group of testdata, in which verify must find nothing wrong.
func openFixture(t *testing.T, name string) *Group {
	t.Helper()
	c := codec(t)
	blob, err := os.ReadFile("testdata/" + name + ".group")
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
	return g
}

// found returns the serials of the events that match q, and of those that the plan has.
func found(t *testing.T, g *Group, q *query.Query) (got, looked []uint64) {
	t.Helper()
	cands, err := g.Plan(q, store.ConditionsOf(q))
	if err != nil {
		t.Fatal(err)
	}
	m := query.NewMatcher(q)
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
			ev := store.ParseText(one, cand.Block.Counted, []byte(cand.Block.Host), store.Origin{})
			looked = append(looked, ev.Serial)
			if m.Match(ev) {
				got = append(got, ev.Serial)
			}
		}
	}
	return got, looked
}
