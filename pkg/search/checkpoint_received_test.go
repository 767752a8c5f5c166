package search

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// receivedModel gives the model's events their times of receipt, as a store keeps them.
type receivedModel struct {
	fleetModel
	at map[string]time.Time // by line
}

func (f *receivedModel) Scan(ctx context.Context, q *Query, limit uint64, fn func(*event.Event) error) error {
	return f.fleetModel.Scan(ctx, q, limit, func(ev *event.Event) error {
		for i := range ev.Records {
			if at, ok := f.at[string(ev.Records[i].Raw)+"\n"]; ok && q.Origin {
				ev.Records[i].Received = at.UnixMilli()
			}
		}
		return fn(ev)
	})
}

// No stamp of the far future hides an event from a search by checkpoint, or moves the
// place of a host.
func TestCheckpointHidesNothing(t *testing.T) {
	ck := filepath.Join(t.TempDir(), "ck")
	at := time.Unix(1700000000, 0)
	f := &receivedModel{fleetModel: fleetModel{states: map[string]HostState{}}, at: map[string]time.Time{}}
	add := func(node string, ms int64, received time.Time) string {
		line := fleetLine(node, ms, len(f.events)+1)
		f.events, f.at[line] = append(f.events, line), received
		return line
	}
	find := func(now time.Time, justOne bool, want ...string) {
		t.Helper()
		o := &Options{Format: FormatRaw, Checkpoint: ck, JustOne: justOne}
		if got := findNewIn(t, o, f, f.hosts(), now); !slices.Equal(got, want) {
			t.Errorf("at %v: %q, want %q", now.Sub(at), got, want)
		}
	}
	const century = 100 * 365 * 24 * 3600 * 1000
	first := add("a", at.UnixMilli(), at)
	far := add("a", at.UnixMilli()+century, at.Add(time.Second))
	invented := add("x", at.UnixMilli()+century, at.Add(2*time.Second))
	f.states["a"] = HostState{"a", at, at.UnixMilli()} // the far one moves nothing
	find(at.Add(5*time.Second), false, first)
	find(at.Add(11*time.Second), true) // --just-one leaves it
	find(at.Add(11*time.Second), false, far)
	find(at.Add(12*time.Second), false, invented)
	find(at.Add(13*time.Second), false)
	// The host goes on, and so do the others.
	next := add("a", at.UnixMilli()+20_000, at.Add(20*time.Second))
	again := add("a", at.UnixMilli()+century-1, at.Add(20*time.Second))
	f.states["a"] = HostState{"a", at.Add(20 * time.Second), at.UnixMilli() + 20_000}
	find(at.Add(24*time.Second), false, next)
	find(at.Add(time.Minute), false, again)
	find(at.Add(time.Hour), false)

	for _, bad := range []string{"received=\n", "received=-5\n", "received=x\n"} {
		writeFile(t, ck, hostsLine+"\n"+bad)
		if _, err := loadHostsCheckpoint(ck); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
