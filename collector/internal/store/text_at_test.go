package store

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The event in which a place of a text lies is the one that CutText cuts there.
func TestEventAt(t *testing.T) {
	t.Parallel()
	record := rapid.StringMatching(`[a-c=]{1,4}`)
	event := rapid.Map(rapid.SliceOfN(record, 1, 4), func(r []string) string { return strings.Join(r, "\n") + "\n\n" })
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(strings.Join(rapid.SliceOfN(event, 1, 8).Draw(t, "events"), ""))
		from := 0
		for rest := text; len(rest) > 0; {
			one, behind, err := CutText(rest, false)
			if err != nil {
				t.Fatal(err)
			}
			begin := len(text) - len(rest)
			for at := begin; at < begin+len(one)-2; at++ {
				for _, since := range []int{0, from, begin} {
					if b, e, err := EventAt(text, since, at); err != nil || b != begin || e != begin+len(one) {
						t.Fatalf("%q at %d from %d: %d to %d, %v, not %d to %d", text, at, since, b, e, err, begin, begin+len(one))
					}
				}
			}
			from, rest = begin, behind
		}
	})
	if _, _, err := EventAt(bytes.Repeat([]byte("a\n"), 3), 0, 2); err == nil {
		t.Error("an event without an end")
	}
}
