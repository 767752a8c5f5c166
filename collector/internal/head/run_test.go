package head

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Records that come one by one wake the head about once a second, not each, and a search that begins behind an ACK
// finds them all the same.
func TestThinTrafficWakesSeldom(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), nil)
	const records = 300
	before, began := r.h.turned.Load(), time.Now()
	for i := range records {
		r.put(t, plain(1, line("web1", i, i, "AVC", `avc:  denied  { read } for  pid=7 comm="cat"`)))
	}
	took := time.Since(began)
	turns := r.h.turned.Load() - before
	if most := uint64(4 + 4*took/lingerLong); turns > most {
		t.Errorf("%d turns of the head for %d records within %v, at most %d are wanted", turns, records, took, most)
	}
	n := 0
	if err := r.h.Scan(context.Background(), &query.Query{}, func(*event.Event) error { n++; return nil }); err != nil || n != records {
		t.Errorf("a search finds %d of %d, %v", n, records, err)
	}
	r.put(t, plain(1, line("web2", 1, 1, "AVC", "x=1")))
	r.h.Refresh(t.Context())
	if hosts := r.h.Hosts(); len(hosts) != 2 {
		t.Errorf("%d hosts after Refresh", len(hosts))
	}
}

// Where somebody follows, or events are awaited, they come soon; a question whether the head is alive is a turn.
func TestLinger(t *testing.T) {
	t.Parallel()
	var awaited atomic.Bool
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) {
		o.OnEvent, o.Awaited = func(string, *event.Event) {}, awaited.Load
	})
	is := func(why string, want time.Duration) {
		t.Helper()
		if got := r.h.linger(); got != want {
			t.Errorf("%s: %v, want %v", why, got, want)
		}
	}
	is("nobody waits", lingerLong)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- r.h.Follow(ctx, &query.Query{}, func(*event.Event) error { return nil }, func(uint64) error { return nil })
	}()
	need.Wait(t, "somebody follows", func() bool { return r.h.linger() == lingerShort })
	cancel()
	<-ended
	is("nobody follows any more", lingerLong)
	// What a commit has written, and nobody can take yet, is waited for by who asks just then: Poke comes too early.
	waits, end := context.WithCancel(t.Context())
	waited := make(chan error, 1)
	go func() { waited <- r.h.waitProcessed(waits, r.j.Last()+1) }()
	need.Wait(t, "a search waits", func() bool { return r.h.linger() == 0 })
	r.put(t, plain(1, line("web1", 1, 1, "AVC", "x=1")))
	if err := <-waited; err != nil {
		t.Error(err)
	}
	end()
	is("no search waits any more", lingerLong)
	awaited.Store(true)
	is("plugins wait", lingerShort)
	for i := range 3 {
		n := r.h.Turns()
		need.Wait(t, fmt.Sprintf("turn %d", i), func() bool { return r.h.turned.Load() > n })
	}
}
