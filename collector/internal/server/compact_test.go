package server

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// stuck is a store two of whose days could not be compacted, one of them so often.
type stuck struct {
	store.Compactor
	times int
}

func (s stuck) Uncompacted(store.Compaction) []store.Uncompacted {
	at := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	return []store.Uncompacted{
		{Part: store.Part{Day: store.DayOf(at), N: 2}, Since: at, Next: at.Add(4 * time.Hour), Times: 1, Err: errors.New("no key")},
		{Part: store.Part{Day: store.DayOf(at) + 1, N: 1}, Times: s.times},
	}
}

func (stuck) Compactable(store.Compaction) (parts int, bytes uint64) { return 2, 1 << 20 }

// What cannot be compacted is said in the state report and counted.
func TestUncompacted(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(shortDir(t)))
	if strings.Contains(r.report(), "not compacted") {
		t.Errorf("a server without any trouble: %s", r.report())
	}
	r.compaction.store = stuck{times: 2}
	want := "not compacted = 2026-11-22 cannot be compacted since 2026-11-22 03:00:00, and takes more room and longer to search: no key; it is tried again at 2026-11-22 07:00:00; so with 1 more\n"
	if got := r.report(); !strings.Contains(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}
	if n := r.compaction.sample().Postponed; n != 2 {
		t.Errorf("%d are counted", n)
	}
}
