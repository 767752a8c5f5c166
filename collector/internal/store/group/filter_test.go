package group

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// filterOf is the filter of some groups.
func filterOf(t testing.TB, c *Codec, blobs ...[]byte) []byte {
	var w FilterBuilder
	for _, b := range blobs {
		g, err := c.Open(b)
		if err == nil {
			err = w.Add(g)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return w.Bytes()
}

// A filter says of every value of its groups that it is there, of few others, and of none that it cannot know that it is not.
func TestFilter(t *testing.T) {
	t.Parallel()
	c := codec(t)
	_, all := manyBatches(t, c, 6, 3, need.Size(6000, 1500))
	blobs, _ := build(t, c, all, len(all)/2)
	raw := filterOf(t, c, blobs...)
	f, err := OpenFilter(raw)
	if err != nil {
		t.Fatal(err)
	}
	values := 0
	var x query.Extractor
	for i := range all {
		x.Index(all[i].ev, func(field query.Field, v []byte) {
			values++
			if !f.MayHave(field, string(v)) {
				t.Fatalf("%q of field %s is not there", v, field)
			}
		})
	}
	wrong := 0
	const absent = 20_000
	for i := range absent {
		if f.MayHave(query.FieldExe, fmt.Sprintf("/no/such/%d", i)) {
			wrong++
		}
	}
	if wrong > absent/30 {
		t.Errorf("%d of %d absent values may be there", wrong, absent)
	}
	for name, q := range storetest.Queries() {
		found := false
		for _, blob := range blobs {
			got, err := read(c, blob, q)
			if err != nil {
				t.Fatal(err)
			}
			found = found || len(got) > 0
		}
		if found && !f.May(q, store.ConditionsOf(q)) {
			t.Errorf("%s: hidden", name)
		}
	}
	nowhere := &query.Query{Terms: []query.Term{term(query.OpEqual, "/no/such", query.FieldExe)}}
	if f.May(nowhere, store.ConditionsOf(nowhere)) || !f.May(&query.Query{}, nil) {
		t.Error("an absent value may be there, or nothing may")
	}
	if !f.MayHave(query.Field(query.NumIndexed+8), "x") {
		t.Error("a field that the filter does not know is not there")
	}
	// Damage hides nothing.
	exe := ""
	x.Index(all[len(all)/2].ev, func(field query.Field, v []byte) {
		if field == query.FieldType {
			exe = string(v)
		}
	})
	for at := 0; at < len(raw); at += 1 + len(raw)/3000 {
		bad := bytes.Clone(raw)
		bad[at] = 0
		f, err := OpenFilter(bad)
		if err != nil && !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrNotOurs) {
			t.Fatal(err)
		}
		if err == nil && !f.MayHave(query.FieldType, exe) {
			t.Fatalf("byte %d: hidden", at)
		}
	}
	for n := range len(raw) / 100 {
		if _, err := OpenFilter(raw[:n]); err == nil {
			t.Fatalf("%d bytes are a filter", n)
		}
	}
}

// Of groups from before some values were indexed a filter knows nothing.
func TestFilterOfOldGroups(t *testing.T) {
	t.Parallel()
	c := codec(t)
	old, err := os.ReadFile("testdata/v2-before.group")
	if err != nil {
		t.Fatal(err)
	}
	_, all := manyBatches(t, c, 6, 3, 100)
	blobs, _ := build(t, c, all, len(all))
	for _, raw := range [][]byte{filterOf(t, c, blobs[0], old), filterOf(t, c, old, blobs[0]), filterOf(t, c)} {
		f, err := OpenFilter(raw)
		if err != nil || !f.MayHave(query.FieldExe, "/no/such") {
			t.Errorf("%v", err)
		}
	}
}

func FuzzFilter(f *testing.F) {
	c := codec(f)
	_, all := manyBatches(f, c, 6, 1, 20)
	blobs, _ := build(f, c, all, len(all))
	f.Add(filterOf(f, c, blobs...), byte(7), "x")
	f.Fuzz(func(t *testing.T, b []byte, field byte, v string) {
		if x, err := OpenFilter(b); err == nil {
			x.MayHave(query.Field(field), v)
		}
	})
}
