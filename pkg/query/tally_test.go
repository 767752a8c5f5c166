package query

import (
	"maps"
	"testing"
)

func counts(vs *Values) map[string]int64 {
	m := map[string]int64{}
	vs.Each(func(v string, n int64) { m[v] = n })
	return m
}

func TestTally(t *testing.T) {
	a, b := NewTally([]Field{FieldKey, FieldPID}, nil), NewTally([]Field{FieldKey}, nil)
	a.Of(FieldKey).Add([]byte("x"), 3)
	a.Of(FieldKey).Add([]byte("none"), 0)
	b.Of(FieldKey).AddString("x", 2)
	b.Of(FieldKey).AddString("y", 1)
	b.Of(FieldKey).AddString("z", 0)
	a.Events, b.Events = 3, 3
	a.Time(5, 6)
	b.Time(2, 9)
	a.Merge(b)
	if a.Events != 6 || a.FirstMs != 2 || a.LastMs != 9 || !maps.Equal(counts(a.Of(FieldKey)), map[string]int64{"x": 5, "y": 1}) {
		t.Errorf("%+v %v", a, counts(a.Of(FieldKey)))
	}
	a.TakeBack(parsed(t, stamped("SYSCALL", `pid=1 key=78017801`+`79`))) // x twice, then y
	if a.Events != 5 || !maps.Equal(counts(a.Of(FieldKey)), map[string]int64{"x": 4}) {
		t.Errorf("after taking back: %d, %v", a.Events, counts(a.Of(FieldKey)))
	}
	empty := NewTally([]Field{FieldKey}, nil)
	empty.Merge(a)
	if !maps.Equal(counts(empty.Of(FieldKey)), map[string]int64{"x": 4}) || len(counts(empty.Of(FieldUID))) != 0 {
		t.Error("merged into an empty one")
	}
}

func TestIndexShape(t *testing.T) {
	got := map[string]string{}
	var x Extractor
	x.Index(parsed(t, stamped("SYSCALL", "syscall=59 success=yes pid=1 key=6B016B"), stamped("CWD", `cwd="/home"`),
		stamped("PATH", `name="/a"`), stamped("PATH", `name="/a"`)), func(f Field, v []byte) { got[f.String()] = string(v) })
	if got["cwd"] != "/home" || got["file-again"] != "/a" || got["key-again"] != "k" || got["odd"] != "" {
		t.Errorf("%q", got)
	}
	s, ok := ParseShape([]byte(got["shape"]))
	if !ok || !s.Known || !s.Success || !s.Call || len(s.Types) != 3 || s.Types[0] != 1300 || s.Types[2] != 1302 {
		t.Errorf("%+v %v", s, ok)
	}
	if _, ok := ParseShape(nil); ok {
		t.Error("an empty shape")
	}
	if Field(60).String() != "field-60" || Number(FieldSuccess, 0) != "no" || FieldEGID.Name() != FieldEGIDName {
		t.Error("names")
	}
}
