package storetest

import (
	"context"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// testParts wants what retention and the disk's watcher go by: each part's counts, times and last batch, the whole as their sum, and
// the part that is written, and no other, as not sealed.
func testParts(t *testing.T, env Env) {
	s := env.Open(t)
	ctx := context.Background()
	if st, err := s.Stats(ctx); err != nil || st.Events != 0 || st.MinMs != 0 || st.MaxMs != 0 {
		t.Errorf("of a new store: %+v, %v", st, err)
	}
	day, ms := store.DayOf(Start), Start.UnixMilli()
	mustAppend(t, s, &store.Batch{ID: 1, Day: day, Events: tableOf(oneEvent("a", ms, 1), oneEvent("b", ms+7, 2)), LSN: 2})
	mustAppend(t, s, &store.Batch{ID: 2, Day: day, LSN: 3})
	mustAppend(t, s, &store.Batch{ID: 3, Day: day, Events: tableOf(oneEvent("a", ms-5, 3)), LSN: 4})
	mustAppend(t, s, &store.Batch{ID: 4, Day: day + 1, Events: tableOf(oneEvent("a", ms+9, 4)), LSN: 5})
	size := uint64(len(oneEvent("a", ms, 1).Records[0].Raw))
	want := []store.PartStats{
		{Part: store.Part{Day: day, N: 1}, LastID: 3, Events: 3, Records: 3, RawBytes: 3 * size, MinMs: ms - 5, MaxMs: ms + 7, Sealed: true, Received: day},
		{Part: store.Part{Day: day + 1, N: 1}, LastID: 4, Events: 1, Records: 1, RawBytes: size, MinMs: ms + 9, MaxMs: ms + 9, Received: day + 1},
	}
	for _, when := range []string{"written", "reopened"} {
		if when == "reopened" {
			s = env.Reopen(t, s)
		}
		st, err := s.Stats(ctx)
		if err != nil || len(st.Parts) != len(want) {
			t.Fatalf("%s: %+v, %v; want %d parts", when, st, err, len(want))
		}
		if st.Events != 4 || st.Records != 4 || st.RawBytes != 4*size || st.MinMs != ms-5 || st.MaxMs != ms+9 {
			t.Errorf("%s: the whole is %+v", when, st)
		}
		var disk uint64
		for i, p := range st.Parts {
			disk += p.DiskBytes
			p.DiskBytes, p.IndexBytes = 0, 0
			if p != want[i] {
				t.Errorf("%s: part %d is\n%+v, want\n%+v", when, i, p, want[i])
			}
		}
		if disk > st.DiskBytes {
			t.Errorf("%s: the parts take %d bytes, the whole %d", when, disk, st.DiskBytes)
		}
	}
}
