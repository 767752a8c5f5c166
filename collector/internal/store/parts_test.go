package store

import (
	"slices"
	"testing"
)

// Parts are named, read back and ordered by day and number.
func TestParts(t *testing.T) {
	day, err := ParseDay("2026-11-22")
	if err != nil {
		t.Fatal(err)
	}
	parts := []Part{{Day: day + 1, N: 1}, {Day: day, N: 10}, {Day: day, N: 2}, {Day: day, N: 1}}
	slices.SortFunc(parts, Part.Compare)
	for i, want := range []string{"2026-11-22", "2026-11-22.2", "2026-11-22.10", "2026-11-23"} {
		if got := parts[i].String(); got != want {
			t.Errorf("part %d is %s, want %s", i, got, want)
		}
		if p, err := ParsePart(want); err != nil || p != parts[i] {
			t.Errorf("%s is read as %v, %v", want, p, err)
		}
	}
	for _, bad := range []string{"", "2026-11-31", "2026-11-22.", "2026-11-22.1", "2026-11-22.02", "2026-11-22.x", "2026-11-22.2.3"} {
		if p, err := ParsePart(bad); err == nil {
			t.Errorf("%q is read as %v", bad, p)
		}
	}
}
