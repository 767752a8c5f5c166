package server

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
)

// stuck is a store that takes no events.
type stuck struct{ store.Store }

func (stuck) Append(context.Context, *store.Batch) error { return errors.New("stuck") }

// A journal that outgrows its table is said, not over and over, and known to what
// looks after space.
func TestOutgrownJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := engine.Open(engine.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var log strings.Builder
	now := time.Unix(1e9, 0)
	s := &Server{store: stuck{st}, cfg: Config{Log: hclog.New(&hclog.LoggerOptions{Output: &log}), Now: func() time.Time { return now }, OpenTotal: 64 << 20}}
	s.space = space.New(space.Config{Space: func() (free, total uint64, err error) { return 16 << 20, 16 << 20, nil }})
	if got := s.openTotal(); got != 1<<20 {
		t.Errorf("open events may take %d bytes on a disk of 16 MiB", got)
	}
	if s.journal, _, err = journal.Open(journal.Options{Dir: filepath.Join(dir, journalDir), SegmentBytes: s.share(segmentPart, maxSegment)}); err != nil {
		t.Fatal(err)
	}
	defer s.journal.Close()
	if s.head, err = head.Open(head.Options{Journal: s.journal, Place: s.store, Events: s.store, TableBytes: s.share(tablePart, maxTable), RetryEvery: time.Hour}); err != nil {
		t.Fatal(err)
	}
	defer s.head.Close()
	var said time.Time
	s.sayOutgrown(&said)
	for i := 0; s.journalExcess() == 0; i++ {
		if i == 40 {
			t.Fatalf("the journal has %d bytes, the limit is %d", s.journal.Stats().DiskBytes, s.journalLimit())
		}
		var done sync.WaitGroup
		done.Add(1)
		b := &journal.Batch{Conn: 1, Received: now, Records: []journal.Record{{Raw: []byte(strings.Repeat("x", 500<<10))}}}
		if err := s.journal.Submit(context.Background(), b, func(error) { done.Done() }); err != nil {
			t.Fatal(err)
		}
		done.Wait()
	}
	for range 3 {
		s.sayOutgrown(&said)
	}
	if n := strings.Count(log.String(), "the journal has outgrown"); n != 1 {
		t.Errorf("said %d times:\n%s", n, log.String())
	}
	now = now.Add(outgrownSay)
	s.sayOutgrown(&said)
	if n := strings.Count(log.String(), "the journal has outgrown"); n != 2 {
		t.Errorf("said %d times after %v", n, outgrownSay)
	}
}
