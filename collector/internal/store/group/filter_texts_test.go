package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/internal/golden"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// filterOfValues is a filter of values of one field, as a group of them has it.
func filterOfValues(f query.Field, values [][]byte) *FilterBuilder {
	w := &FilterBuilder{begun: true}
	for i := range w.fields {
		w.fields[i] = 0xff
	}
	values = slices.Clone(values)
	slices.SortFunc(values, bytes.Compare)
	var before []byte
	for _, v := range values {
		w.addValue(f, v, before)
		before = v
	}
	return w
}

// Of whatever bytes values are, a filter hides none that contains what is looked for.
func TestFilterTexts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.SliceOfN(rapid.SampledFrom([]byte{'a', 'b', '/', 0, 0xff, '"'}), 0, 12)
		values := rapid.SliceOfN(letters, 0, 40).Draw(t, "values")
		w := filterOfValues(query.FieldFile, values)
		w.giveUp(rapid.SampledFrom([]int{0, 20, 100, mostTexts}).Draw(t, "room"))
		f, err := OpenFilter(w.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		part := string(letters.Draw(t, "part"))
		if len(values) > 0 && rapid.Bool().Draw(t, "there") {
			v := rapid.SampledFrom(values).Draw(t, "value")
			from := rapid.IntRange(0, len(v)).Draw(t, "from")
			part = string(v[from:rapid.IntRange(from, len(v)).Draw(t, "to")])
		}
		if !f.MayContain(query.FieldFile, part) && slices.ContainsFunc(values, func(v []byte) bool { return bytes.Contains(v, []byte(part)) }) {
			t.Fatalf("%q is hidden", part)
		}
		if !f.MayContain(query.FieldPID, part) || !f.MayContain(query.FieldShape, part) {
			t.Fatal("texts of numbers, and of what is not searched by, are not known")
		}
	})
}

// A filter tells texts apart where there is room for them, gives up the most where there is not, and stays within its share.
func TestFilterTextsRoom(t *testing.T) {
	t.Parallel()
	var values [][]byte
	for i := range 4000 {
		values = append(values, fmt.Appendf(nil, "/tmp/%x.txt", uint32(i)*2654435761))
	}
	for _, c := range []struct {
		raw    uint64
		absent map[string]bool // and whether the filter says so
	}{
		{1 << 30, map[string]bool{"/opt/hay": true, "hay": true, "zz": true, "q": true, "0123456789": true, "": false}},
		{textShare * filterPage, map[string]bool{"/opt/hay": true, "hay": true, "zz": true, "q": true, "": false}},
	} {
		w := filterOfValues(query.FieldFile, values)
		w.rawBytes = c.raw
		n := len(w.values.all)
		b := w.Bytes()
		if most := (n*filterBits/8 + int(c.raw/textShare)) * 5 / 4; len(b) > most+2*filterPage {
			t.Errorf("of %d bytes of records a filter of %d, at most %d", c.raw, len(b), most)
		}
		f, err := OpenFilter(b)
		if err != nil {
			t.Fatal(err)
		}
		for part, says := range c.absent {
			if f.MayContain(query.FieldFile, part) == says {
				t.Errorf("of %d bytes of records: %q may be there: %v", c.raw, part, says)
			}
		}
		for _, part := range []string{"/tmp/", ".txt", "/", "t", string(values[77])} {
			if !f.MayContain(query.FieldFile, part) {
				t.Errorf("%q is hidden", part)
			}
		}
	}
}

// Of more values than a filter has it knows none, and hides none.
func TestFilterManyValues(t *testing.T) {
	t.Parallel()
	for most, hides := range map[int]bool{20_000: true, 1000: false} {
		w := FilterBuilder{begun: true, most: most, rawBytes: 1 << 30}
		for i := range w.fields {
			w.fields[i] = 0xff
		}
		for i := range 20_000 {
			w.addValue(query.FieldFile, fmt.Appendf(nil, "/tmp/%d", i), nil)
		}
		f, err := OpenFilter(w.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if !f.MayHave(query.FieldFile, "/tmp/7") || !f.MayContain(query.FieldFile, "tmp") {
			t.Errorf("of at most %d values: what is there is hidden", most)
		}
		if !f.MayHave(query.FieldFile, "/opt/hay") != hides {
			t.Errorf("of at most %d values: it says that another one may be there: %v", most, !hides)
		}
	}
}

// Serials that were added are there, others are not as long as there are few ranges, and with more only what lies between them may be.
func TestFilterSerials(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		one := rapid.OneOf(rapid.Uint64Range(0, 50), rapid.Uint64(), rapid.Uint64Range(math.MaxUint64-3, math.MaxUint64))
		list := rapid.SliceOfN(one, 0, 60).Draw(t, "serials")
		most := rapid.SampledFrom([]int{1, 2, 10, mostRanges}).Draw(t, "ranges")
		var s serials
		has := map[uint64]bool{}
		for i, n := range list {
			s.add(n)
			has[n] = true
			if i%7 == 6 {
				s.join(most)
			}
		}
		s.join(most)
		if len(s.ranges) > most {
			t.Fatalf("%d ranges, at most %d", len(s.ranges), most)
		}
		b := s.encode()
		for n := range has {
			if !mayHaveSerial(b, n) {
				t.Fatalf("serial %d is hidden", n)
			}
		}
		if n := one.Draw(t, "another"); most == mostRanges && mayHaveSerial(b, n) != has[n] {
			t.Fatalf("serial %d may be there: %v", n, !has[n])
		}
	})
	var s serials
	for i := range uint64(3 * roomRanges) {
		s.add(i * i) // gaps that grow
	}
	b := s.encode()
	if len(s.ranges) > mostRanges || len(b) > 20*mostRanges {
		t.Errorf("%d ranges in %d bytes", len(s.ranges), len(b))
	}
	for i := range uint64(3 * roomRanges) {
		if !mayHaveSerial(b, i*i) {
			t.Fatalf("serial %d is hidden", i*i)
		}
	}
	if last := uint64(3*roomRanges - 1); mayHaveSerial(b, last*last-5) || mayHaveSerial(b, last*last+1) {
		t.Error("the widest gaps are said to be there")
	}
	for n := range b {
		bad := bytes.Clone(b)
		bad[n] ^= 4
		if !mayHaveSerial(bad, 7) || !mayHaveSerial(b[:n], 7) {
			t.Fatalf("byte %d: damage hides", n)
		}
	}
}

// A filter that was not told of each event's serial knows none.
func TestFilterSerialsUntold(t *testing.T) {
	t.Parallel()
	c := codec(t)
	_, all := manyBatches(t, c, 6, 3, 100)
	blobs, _ := build(t, c, all, len(all))
	g, err := c.Open(blobs[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, told := range []int{len(all), len(all) - 1} {
		var w FilterBuilder
		if err := w.Add(g); err != nil {
			t.Fatal(err)
		}
		for i := range all[:told] {
			w.AddSerial(all[i].ev.Serial)
		}
		f, err := OpenFilter(w.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := f.MayHaveSerial(4_000_000_000), told < len(all); got != want {
			t.Errorf("told of %d of %d serials: another one may be there: %v", told, len(all), got)
		}
	}
}

// TestFilterFixture reads filters that each version wrote of v5.group. They must be read for ever.
func TestFilterFixture(t *testing.T) {
	c := codec(t)
	blob, err := os.ReadFile("testdata/v5.group")
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.Open(blob)
	if err != nil {
		t.Fatal(err)
	}
	if golden.Update() {
		var w FilterBuilder
		if err := w.Add(g); err != nil {
			t.Fatal(err)
		}
		_, all := manyBatches(t, c, 11, 3, 100)
		for i := range all {
			w.AddSerial(all[i].ev.Serial)
		}
		if err := os.WriteFile("testdata/v2.filter", w.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, knows := range map[string]bool{"v1": false, "v2": true} {
		b, err := os.ReadFile("testdata/" + name + ".filter")
		if err != nil {
			t.Fatal(err)
		}
		f, err := OpenFilter(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Check(), f.Covers(g)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if f.MayHave(query.FieldExe, "/opt/needle") {
			t.Errorf("%s: a value that is not there may be", name)
		}
		if f.MayContain(query.FieldExe, "needle") == knows || f.MayHaveSerial(4_000_000_000) == knows {
			t.Errorf("%s: a text or a serial that is not there may be: %v", name, knows)
		}
		b[len(filterMagic)] = filterVersion + 1
		if _, err := OpenFilter(b); !errors.Is(err, store.ErrVersion) {
			t.Errorf("%s as of a version to come: %v", name, err)
		}
	}
}

// A filter that hides what a group has is found, whatever its checksums say.
func TestFilterCovers(t *testing.T) {
	t.Parallel()
	c := codec(t)
	_, all := manyBatches(t, c, 6, 3, 100)
	blobs, _ := build(t, c, all, len(all))
	g, err := c.Open(blobs[0])
	if err != nil {
		t.Fatal(err)
	}
	var w FilterBuilder
	if err := w.Add(g); err != nil {
		t.Fatal(err)
	}
	for range all {
		w.AddSerial(4_000_000_000)
	}
	b := w.Bytes()
	f, err := OpenFilter(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Check(); err != nil {
		t.Error(err)
	}
	if err := f.Covers(g); err == nil || !strings.Contains(err.Error(), "serial") {
		t.Errorf("serials are hidden: %v", err)
	}
	f.serials = nil
	if err := f.Covers(g); err != nil {
		t.Error(err)
	}
	page := f.all[:filterPage]
	page[0] ^= 1
	if err := f.Check(); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a page is damaged: %v", err)
	}
	clear(page)
	binary.LittleEndian.PutUint32(page[filterPage-4:], crc32.Checksum(page[:filterPage-4], castagnoli))
	if err := errors.Join(f.Check(), f.Covers(g)); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("values are hidden: %v", err)
	}
}
