package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(fs fsys.FS, dir string) Config {
	return Config{FS: fs, Dir: dir, Limits: Limits{Items: 10, Bytes: 1 << 20}, Log: hclog.NewNullLogger(), Now: time.Now}
}

func item(id, episode, text string) Item {
	return Item{ID: id, Episode: episode, Group: "g", Data: []byte(`"` + text + `"`)}
}

// waits returns the data of what waits.
func waits(q *Queue) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []string
	for _, e := range q.items {
		all = append(all, strings.Trim(string(e.Data), `"`))
	}
	return strings.Join(all, " ")
}

func want(t *testing.T, q *Queue, want string) {
	t.Helper()
	if got := waits(q); got != want {
		t.Errorf("%q waits, want %q", got, want)
	}
}

// A newer item takes the place of one of its alert and time of firing; of too many, those go
// first that a newer one of their alert follows, then the least grave.
func TestReplacedAndDropped(t *testing.T) {
	dropped := 0
	cfg := config(fsys.OS, t.TempDir())
	cfg.Items, cfg.Dropped = 3, func(n int) { dropped += n }
	q := Open(cfg)
	defer q.Close()
	q.Put(item("a", "1", "a1"), item("b", "1", "b1"), item("a", "1", "a1again"))
	want(t, q, "b1 a1again")
	q.Put(item("a", "2", "a2"))
	want(t, q, "b1 a1again a2")
	grave := item("c", "1", "c1")
	grave.Rank = 2
	q.Put(grave)
	want(t, q, "b1 a2 c1")
	q.Put(item("d", "1", "d1"))
	want(t, q, "a2 c1 d1")
	if dropped != 2 {
		t.Errorf("%d dropped", dropped)
	}
	// What is being sent is neither replaced nor overtaken.
	batch := q.Take(1, 1000)
	q.Put(item("a", "2", "a2over"))
	if len(batch) != 1 || string(batch[0].Data) != `"a2"` {
		t.Fatalf("%v", batch)
	}
	for _, e := range q.Take(10, 1000) {
		if e.ID == "a" {
			t.Errorf("%s was taken while an older one is sent", e.Data)
		}
	}
}

// Limits that are lowered by much keep what as many drops one by one would, over a restart, too.
func TestLowered(t *testing.T) {
	dropped := 0
	cfg := config(fsys.OS, t.TempDir())
	cfg.Items, cfg.Dropped = 1000, func(n int) { dropped += n }
	q := Open(cfg)
	for i := range 300 {
		for _, episode := range []string{"1", "2"} {
			it := item(fmt.Sprint(i), episode, fmt.Sprint(i, ".", episode))
			it.Rank = i % 3
			q.Put(it)
		}
	}
	sent := q.Take(2, 1000)
	q.SetLimits(Limits{Items: 6, Bytes: 1 << 20})
	const left = "0.1 0.2 290.2 293.2 296.2 299.2"
	want(t, q, left)
	q.Return(sent, false)
	if err := errors.Join(q.Sync(t.Context()), q.Close()); err != nil || dropped != 594 {
		t.Errorf("%d dropped, %v", dropped, err)
	}
	q = Open(cfg)
	defer q.Close()
	want(t, q, left)
}

// What was put and is not done waits after any end: a clean one, or a kill, which is a copy
// of the files at any time.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	q := Open(config(fsys.OS, filepath.Join(dir, "q")))
	at := func(name, expected string) {
		t.Helper()
		if err := q.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, name)
		if err := os.CopyFS(copied, os.DirFS(filepath.Join(dir, "q"))); err != nil {
			t.Fatal(err)
		}
		again := Open(config(fsys.OS, copied))
		want(t, again, expected)
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
	q.Put(item("a", "1", "a1"), item("b", "1", "b1"))
	at("put", "a1 b1")
	q.Done(q.Take(1, 1000))
	at("done", "b1")
	q.Put(item("b", "1", "b1over"))
	at("replaced", "b1over")
	for i := range 600 { // beyond what is kept of the log
		q.Put(item("c", "1", fmt.Sprint(i, strings.Repeat("x", 4000))))
		if err := q.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	q.Put(item("c", "1", "c"))
	at("written anew", "b1over c")
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = Open(config(fsys.OS, filepath.Join(dir, "q")))
	defer q.Close()
	want(t, q, "b1over c")
	if size := q.log.Size(); size > slack+2*segmentBytes {
		t.Errorf("the log has %d bytes for two items", size)
	}
}

// full is a disk without room while it is full.
type full struct {
	fsys.FS
	is *atomic.Bool
}

func (f full) OpenFile(name string, flag int, perm os.FileMode) (fsys.File, error) {
	if f.is.Load() {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
	}
	return f.FS.OpenFile(name, flag, perm)
}

// A disk that is full keeps nothing from being taken; what waits is on disk once there is
// room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for the next try")
	}
	is, dir := new(atomic.Bool), t.TempDir()
	q := Open(config(full{fsys.OS, is}, dir))
	q.Put(item("a", "1", "a1"))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	is.Store(true)
	q = Open(config(full{fsys.OS, is}, dir))
	defer func() { _ = q.Close() }()
	q.Put(item("b", "1", "b1"), item("c", "1", "c1"))
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := q.Sync(ctx); err == nil {
		t.Error("it is said to be on disk")
	}
	if !errors.Is(q.Unsaved(), syscall.ENOSPC) {
		t.Errorf("%v", q.Unsaved())
	}
	q.Done(q.Take(1, 1000))
	want(t, q, "c1")
	is.Store(false)
	need.Wait(t, "it is on disk", func() bool { return q.Unsaved() == nil && q.Sync(context.Background()) == nil })
	want(t, q, "a1 c1") // what waited there before, too
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = Open(config(full{fsys.OS, is}, dir))
	want(t, q, "a1 c1")
}
