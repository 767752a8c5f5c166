package layout

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
)

func part(day store.Day, n int) store.Part { return store.Part{Day: 20000 + day, N: n} }

// mark is that of parts made of the first part of a day.
func mark(of store.Day, parts ...store.Part) *Compacted {
	return &Compacted{First: 3, Last: 9, Sources: []Source{{Part: part(of, 1), First: 2, Last: 9}}, Parts: parts}
}

func TestCompactedMark(t *testing.T) {
	t.Parallel()
	want := mark(1, part(1, 2), part(0, 4))
	want.Sources, want.Class, want.Received = append(want.Sources, Source{Part: part(1, 7), First: 10, Last: 12}), "web*", -7
	v := want.Encode()
	got, err := DecodeCompacted(v)
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v (-put in +came back):\n%s", err, d)
	}
	if got, err := DecodeCompacted(nil); got != nil || err != nil {
		t.Errorf("of another partition: %v, %v", got, err)
	}
	for bit := range 8 * len(v) {
		bad := bytes.Clone(v)
		bad[bit/8] ^= 1 << (bit % 8)
		if got, err := DecodeCompacted(bad); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("bit %d flipped: %+v, %v", bit, got, err)
		}
	}
	if !want.Of(part(1, 7), 12) || want.Of(part(1, 7), 13) || want.Of(part(1, 2), 9) {
		t.Error("what it was made of")
	}
}

func FuzzCompacted(f *testing.F) {
	f.Add(mark(1, part(1, 2), part(0, 4)).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range [][]byte{b, AddSum(KeyCompacted, bytes.Clone(b))} {
			if c, err := DecodeCompacted(v); err == nil && c != nil {
				again, err := DecodeCompacted(c.Encode())
				if d := cmp.Diff(c, again); err != nil || d != "" {
					t.Errorf("%v %s", err, d)
				}
			}
		}
	})
}

// enough returns the files of which verdicts depend.
func enough(list *manifest.Content, files []Judged) (out []Judged) {
	if list == nil {
		return files
	}
	asked := map[string]bool{}
	for i := range files {
		if list.Part(files[i].Part.String()) == nil {
			out = append(out, files[i])
			for _, name := range Asked(list, &files[i]) {
				asked[name] = true
			}
		}
	}
	for _, f := range files {
		if name := f.Part.String(); asked[name] && list.Part(name) != nil {
			out = append(out, f)
		}
	}
	return out
}

// What counts after a crash at each step of a compaction, and after hands have put things back. The day's first part was
// rewritten into its second and one of the day before.
func TestJudge(t *testing.T) {
	t.Parallel()
	source := Judged{Part: part(1, 1), First: 2, Last: 9, Events: 50, Sound: true}
	made := mark(1, part(1, 2), part(0, 4))
	main := Judged{Part: part(1, 2), First: 2, Last: 9, Events: 40, Compacted: made, Sound: true}
	late := Judged{Part: part(0, 4), First: 3, Last: 5, Events: 10, Compacted: made, Sound: true}
	left := Judged{Part: part(1, 9), First: 2, Last: 9, Events: 50, Compacted: mark(1, part(1, 9)), Sound: true}
	other := Judged{Part: part(1, 8), First: 2, Last: 9, Events: 50, Compacted: mark(1, part(1, 8)), Sound: true}
	other.Compacted.Sources[0].Last++
	unsound := func(f Judged) Judged { f.Sound = false; return f }
	with := func(f Judged, events uint64) Judged { f.Events = events; return f }
	before := &manifest.Content{Parts: []manifest.Part{{Name: source.Part.String()}}}
	after := &manifest.Content{Parts: []manifest.Part{{Name: source.Part.String(), First: 2, Batch: 9, Events: 50}, {Name: main.Part.String()}, {Name: late.Part.String()}}}
	after.Replace(after.Parts[0], "", []string{main.Part.String(), late.Part.String()}, after.Since)
	dropped := &manifest.Content{Parts: after.Parts[1:], Replaced: after.Replaced}
	type verdicts = map[store.Part]Verdict
	for _, c := range []struct {
		name  string
		list  *manifest.Content
		files []Judged
		want  verdicts
	}{
		{"before", before, []Judged{source}, verdicts{}},
		{"one has its name", before, []Judged{source, main}, verdicts{main.Part: Unfinished}},
		{"both have", before, []Judged{source, main, late}, verdicts{main.Part: Unfinished, late.Part: Unfinished}},
		{"both have, and the source is damaged", before, []Judged{unsound(source), main, late}, verdicts{main.Part: Doubtful, late.Part: Doubtful}},
		{"the manifest says it", after, []Judged{source, main, late}, verdicts{source.Part: Rewritten}},
		{"the source is deleted", after, []Judged{main, late}, verdicts{}},
		{"it came back, and is another", after, []Judged{with(source, 49), main, late}, verdicts{source.Part: Doubtful}},
		{"it came back damaged", after, []Judged{unsound(source), main, late}, verdicts{source.Part: Doubtful}},
		{"it came back, and one that it was rewritten into is damaged", after, []Judged{source, main, unsound(late)}, verdicts{source.Part: Doubtful}},
		{"it came back when one of these was dropped", dropped, []Judged{source, late}, verdicts{source.Part: Rewritten}},
		{"an attempt before left files", after, []Judged{main, late, left}, verdicts{left.Part: Unfinished}},
		{"so it did, and one that counts is damaged", after, []Judged{main, unsound(late), left}, verdicts{left.Part: Doubtful}},
		{"so it did of another part of that name", after, []Judged{main, late, other}, verdicts{other.Part: Doubtful}},
		{"one that counted came back when it was dropped", dropped, []Judged{main, late}, verdicts{}},
		{"no manifest", nil, []Judged{main, late}, verdicts{}},
		{"no manifest, and the source is there", nil, []Judged{source, main, late}, verdicts{source.Part: Doubtful}},
		{"no manifest, and the source is there, damaged", nil, []Judged{unsound(source), main, late}, verdicts{source.Part: Doubtful}},
		{"no manifest, and one is not there", nil, []Judged{source, main}, verdicts{main.Part: Doubtful}},
		{"no manifest, neither one nor the source", nil, []Judged{main}, verdicts{}},
		{"no manifest, and a later part of the name", nil, []Judged{{Part: source.Part, First: 20, Last: 22, Sound: true}, main, late}, verdicts{}},
	} {
		if d := cmp.Diff(c.want, Judge(c.list, c.files)); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
		if d := cmp.Diff(c.want, Judge(c.list, enough(c.list, c.files))); d != "" {
			t.Errorf("%s, by the files alone of which that depends (-want +got):\n%s", c.name, d)
		}
	}
	if got := fmt.Sprint(dropped.ReplacedBy(source.Part.String())); got == "<nil>" {
		t.Error("the note is gone though a part is there")
	}
}
