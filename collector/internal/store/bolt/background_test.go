package bolt

import (
	"bytes"
	"context"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// foreground is a filesystem on which no thread in the background may put a file in the place of another: batches and the journal wait for the
// manifest, which is written so.
type foreground struct {
	fsys.FS
	t *testing.T
}

func (f foreground) Rename(from, to string) error {
	stack := make([]byte, 64<<10)
	stack = stack[:runtime.Stack(stack, false)]
	if bytes.Contains(stack, []byte("bolt.background.")) {
		f.t.Errorf("a thread that gives way to all others writes %s:\n%s", to, stack)
	}
	return f.FS.Rename(from, to)
}

// A compaction's thread writes nothing for which others wait.
func TestBackgroundWritesBeside(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return storetest.Start }
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "store"), fs: foreground{fsys.OS, t}, now: now, tierParts: 2})
	merged := uint64(0)
	for id := uint64(1); id <= 4; id++ {
		lateBatch(t, s, id)
		merged += mergeAll(t, s, merging)
	}
	if merged == 0 {
		t.Error("nothing was merged")
	}
}

// soon calls fn, and then end. It fails where fn takes a minute, and calls end meanwhile, without which fn may never return.
func soon(t *testing.T, what string, fn, end func()) {
	t.Helper()
	timer := time.AfterFunc(time.Minute, end)
	fn()
	if !timer.Stop() {
		t.Errorf("%s had to wait", what)
		return
	}
	end()
}

// What is compared with the log is read beside the store: a drop, and whoever else opens and closes a partition, waits for none of it.
func TestCompareBeside(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: made(t, 6)})
	must(t, s.CatchUp(t.Context(), false))
	p := s.parts[0]
	p.mu.Lock()
	soon(t, "what is compared with the log", func() {
		if err := s.asSealed(t.Context(), s.parts[:1], nil); err != nil {
			t.Error(err)
		}
	}, p.mu.Unlock)
}

// A batch waits for nobody who reads in the partition that it goes to.
func TestAppendBesideReader(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "store"), now: func() time.Time { return storetest.Start }})
	lateBatch(t, s, 1)
	reads, end, read := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	cur := s.cur
	go func() {
		read <- cur.view(func(*bbolt.Tx) error {
			close(reads)
			<-end
			return nil
		})
	}()
	<-reads
	soon(t, "a batch", func() { lateBatch(t, s, 2) }, func() { close(end) })
	must(t, <-read)
}

// restful is a context that tells of who waits for its end: of a compaction that rests.
type restful struct {
	context.Context
	rests chan struct{}
}

func (c restful) Done() <-chan struct{} {
	select {
	case c.rests <- struct{}{}:
	default:
	}
	return c.Context.Done()
}

// While compaction rests, batches, searches, the log and a drop of what it reads go on.
func TestRestsUnderNoLock(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "store"), now: func() time.Time { return storetest.Start }})
	for id := uint64(1); id <= 3; id++ {
		lateBatch(t, s, id)
	}
	must(t, s.Rotate(t.Context()))
	slow := merging
	slow.Rate = 1 // so it rests for hours
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done, rests := make(chan error, 1), make(chan struct{}, 1)
	go func() {
		_, err := s.Compact(restful{ctx, rests}, slow)
		done <- err
	}()
	<-rests
	soon(t, "what goes on beside a compaction", func() {
		lateBatch(t, s, 4)
		if n := len(whole(t, s)); n != 100 {
			t.Errorf("%d events", n)
		}
		must(t, s.Rotate(t.Context()))
		must(t, s.CatchUp(t.Context(), true))
		must(t, s.Drop(t.Context(), s.parts[0].part, "a test"))
		if n := len(whole(t, s)); n != 25 {
			t.Errorf("%d events are left", n)
		}
		select {
		case err := <-done:
			t.Errorf("it ended by itself: %v", err)
		default:
		}
	}, cancel)
	<-done
}
