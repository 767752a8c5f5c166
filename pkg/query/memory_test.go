package query

import (
	"errors"
	"fmt"
	"testing"
)

func TestMemory(t *testing.T) {
	var none *Memory
	if !none.Take(1 << 40) {
		t.Error("no bound refuses")
	}
	none.Release()
	all := NewMemory(100, nil)
	a, b := NewMemory(80, all), NewMemory(80, all)
	for i, take := range []struct {
		m    *Memory
		n    int
		want bool
	}{{a, 60, true}, {b, 40, true}, {b, 1, false}} {
		if got := take.m.Take(take.n); got != take.want {
			t.Errorf("take %d: %v", i, got)
		}
	}
	a.Release()
	a.Release()
	if !b.Take(39) || b.Take(1) {
		t.Error("what a gave back is not there, or more is")
	}
	b.Release()
	if c := NewMemory(200, all); !c.Take(100) || c.Take(1) {
		t.Error("not all of it was given back")
	}
}

// A tally says that it is full, whichever way a value came, and goes on being right.
func TestTallyMemory(t *testing.T) {
	for name, add := range map[string]func(*Tally, string){
		"bytes":  func(sum *Tally, v string) { sum.Of(FieldKey).Add([]byte(v), 1) },
		"string": func(sum *Tally, v string) { sum.Of(FieldKey).AddString(v, 1) },
		"merge": func(sum *Tally, v string) {
			other := NewTally([]Field{FieldKey}, nil)
			other.Of(FieldKey).AddString(v, 1)
			sum.Merge(other)
		},
	} {
		t.Run(name, func(t *testing.T) {
			sum := NewTally([]Field{FieldKey}, NewMemory(10*(valueBytes+2), nil))
			for i := range 10 {
				add(sum, fmt.Sprintf("%02d", i))
				add(sum, "00")
			}
			if err := sum.Err(); err != nil {
				t.Errorf("ten values: %v", err)
			}
			for range 3 { // of a merge into an empty tally, the first value was another's
				add(sum, fmt.Sprint("more", len(sum.Of(FieldKey).list)))
			}
			if err := sum.Err(); !errors.Is(err, ErrMemory) {
				t.Errorf("thirteen values: %v", err)
			}
			n := int64(0)
			sum.Of(FieldKey).Each(func(_ string, of int64) { n += of })
			if n != 23 {
				t.Errorf("%d counted", n)
			}
		})
	}
}
