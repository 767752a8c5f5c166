package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

func TestMain(m *testing.M) {
	need.Parallel(4)
	goleak.VerifyTestMain(m)
}

func start(t testing.TB, o Options, r Resume) (*Journal, []*Batch) {
	t.Helper()
	j, _, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	var old []*Batch
	if err := j.Start(r, func(b *Batch) error { old = append(old, b); return nil }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j, old
}

func batch(conn uint64, raw ...string) *Batch {
	b := &Batch{Conn: conn, Sender: from(addr(int(conn))), Received: time.Unix(1795334400, 0)}
	for _, r := range raw {
		b.Records = append(b.Records, Record{Raw: []byte(r)})
	}
	return b
}

// put submits and waits for the answer.
func put(t testing.TB, j *Journal, b *Batch) error {
	t.Helper()
	done := make(chan error, 1)
	if err := j.Submit(context.Background(), b, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	return <-done
}

// drain takes all there is until the journal is closed.
func drain(j *Journal) (out []*Batch) {
	for {
		list, err := j.Take(context.Background(), 0)
		out = append(out, list...)
		if err != nil {
			return out
		}
	}
}

// TestGroupCommit has batches that wait together committed together: with one sync.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	j, _, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	const batches = 100
	var subs sync.WaitGroup
	for i := range batches {
		subs.Add(1)
		if err := j.Submit(context.Background(), batch(1, fmt.Sprint(i)), func(error) { subs.Done() }); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Start(Resume{}, func(*Batch) error { return nil }); err != nil {
		t.Fatal(err)
	}
	subs.Wait()
	if s := j.Stats(); s.Batches != batches || s.Commits > 2 || s.Syncs != s.Commits {
		t.Errorf("%+v for %d batches that waited", s, batches)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOrderAndReplay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _ := start(t, Options{Dir: dir, SegmentBytes: 64 << 10}, Resume{Place: Place{LSN: 99}})
	var taken []*Batch
	var wg sync.WaitGroup
	wg.Add(1)
	go func() { defer wg.Done(); taken = drain(j) }()
	const senders, each = 8, 200
	var mu sync.Mutex
	var order []string
	var subs sync.WaitGroup
	for s := range senders {
		subs.Add(1)
		go func() {
			defer subs.Done()
			for i := range each {
				name := fmt.Sprintf("%d/%d", s, i)
				subs.Add(1)
				err := j.Submit(context.Background(), batch(uint64(s), name, name+"b"), func(err error) {
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					order = append(order, name)
					mu.Unlock()
					subs.Done()
				})
				if err != nil {
					t.Error(err)
					subs.Done()
				}
			}
		}()
	}
	subs.Wait()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if len(taken) != senders*each {
		t.Fatalf("%d batches taken, want %d", len(taken), senders*each)
	}
	next := uint64(100)
	for i, b := range taken {
		if b.First != next || string(b.Records[0].Raw) != order[i] {
			t.Fatalf("batch %d: LSN %d, %s; want %d, %s (the order of done)", i, b.First, b.Records[0].Raw, next, order[i])
		}
		next += 2
	}
	if s := j.Stats(); s.Commits > senders*each || s.Syncs != s.Commits || s.QueueBytes != 0 {
		t.Errorf("%+v for %d batches", s, senders*each)
	}
	j, old := start(t, Options{Dir: dir}, Resume{Place: Place{LSN: 150}})
	if d := cmp.Diff(taken, old, batchCmp); d != "" {
		t.Errorf("replayed (-committed +replayed):\n%.2000s", d)
	}
	b := batch(1, "next")
	if err := put(t, j, b); err != nil || b.First != next {
		t.Errorf("after the replay: LSN %d, %v; want %d", b.First, err, next)
	}
}

func TestTrim(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := Options{Dir: dir, SegmentBytes: 16 << 10}
	j, _ := start(t, o, Resume{})
	big := string(make([]byte, 1000))
	for range 200 {
		if err := put(t, j, batch(1, big)); err != nil {
			t.Fatal(err)
		}
	}
	before := j.Stats().DiskBytes
	if err := j.Trim(149, nil); err != nil {
		t.Fatal(err)
	}
	after := j.Stats().DiskBytes
	if after > before*2/3 {
		t.Errorf("trimmed to LSN 150 of 200: %d bytes of %d", after, before)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j, old := start(t, o, Resume{Place: Place{LSN: 149}})
	if old[0].First > 150 || old[len(old)-1].First != 200 {
		t.Errorf("left LSNs %d to %d, want at most 150 to 200", old[0].First, old[len(old)-1].First)
	}
	if err := j.Trim(200, nil); err != nil {
		t.Fatal(err)
	}
	if got := j.Stats().DiskBytes; got > 32<<10 {
		t.Errorf("everything trimmed, %d bytes left", got)
	}
	// An empty journal does not give an LSN twice.
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	j, _ = start(t, o, Resume{Place: Place{LSN: 200}})
	b := batch(1, "x")
	if err := put(t, j, b); err != nil || b.First != 201 {
		t.Errorf("LSN %d, %v; want 201", b.First, err)
	}
}

func TestBackPressure(t *testing.T) {
	t.Parallel()
	j, _ := start(t, Options{Dir: t.TempDir(), QueueBytes: 10_000}, Resume{})
	big := string(make([]byte, 4000))
	for i := range 2 {
		if err := put(t, j, batch(1, big)); err != nil {
			t.Fatalf("batch %d: %v", i, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err := j.Submit(ctx, batch(1, big), func(error) { t.Error("done of a batch that was not taken") })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the queue is full, nobody takes: %v, want a deadline", err)
	}
	var got atomic.Int32
	blocked := make(chan error, 1)
	go func() { blocked <- j.Submit(context.Background(), batch(1, big), func(error) { got.Add(1) }) }()
	list, err := j.Take(context.Background(), 0)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d batches, %v", len(list), err)
	}
	select {
	case err := <-blocked:
		t.Fatalf("submitted (%v) before the taken batches were done with", err)
	case <-time.After(20 * time.Millisecond):
	}
	if list, err = j.Take(context.Background(), 0); err != nil || len(list) != 1 {
		t.Fatalf("%d batches, %v", len(list), err)
	}
	if err := <-blocked; err != nil {
		t.Fatal(err)
	}
	// Larger than the queue, but not than a batch may be: goes when it is alone.
	if list, err = takeAfter(j, batch(1, big+big+big)); err != nil || len(list) != 1 {
		t.Errorf("a batch larger than the queue: %d, %v", len(list), err)
	}
	if err := j.Submit(context.Background(), batch(1, string(make([]byte, MaxBatch+1))), nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a batch beyond MaxBatch: %v, want ErrTooLarge", err)
	}
	go func() { blocked <- j.Submit(context.Background(), batch(1, big+big+big), func(error) {}) }()
	time.Sleep(20 * time.Millisecond)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-blocked; err != nil && !errors.Is(err, ErrClosed) {
		t.Errorf("blocked in Submit while the journal closes: %v, want ErrClosed", err)
	}
	if err := j.Submit(context.Background(), batch(1, "x"), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("submit after close: %v, want ErrClosed", err)
	}
}

func takeAfter(j *Journal, b *Batch) ([]*Batch, error) {
	errs := make(chan error, 1)
	go func() { errs <- j.Submit(context.Background(), b, func(error) {}) }()
	list, err := j.Take(context.Background(), 0)
	return list, errors.Join(err, <-errs)
}

func TestFlushModes(t *testing.T) {
	t.Parallel()
	for mode, want := range map[Flush]func(syncs int) bool{
		FlushSync: func(n int) bool { return n >= 100 }, FlushData: func(n int) bool { return n >= 100 },
		FlushIncremental: func(n int) bool { return n >= 9 && n <= 11 }, FlushIncrementalAsync: func(n int) bool { return n >= 1 && n <= 11 },
		FlushNone: func(n int) bool { return n == 0 },
	} {
		t.Run(string(mode), func(t *testing.T) {
			fs := faultfs.New(1)
			j, _ := start(t, Options{FS: fs, Dir: "/j", Flush: mode, Freq: 10}, Resume{})
			before := fs.Count(faultfs.Sync)
			for range 100 {
				if err := put(t, j, batch(1, "x")); err != nil {
					t.Fatal(err)
				}
			}
			if mode == FlushIncrementalAsync {
				need.Wait(t, "a sync", func() bool { return fs.Count(faultfs.Sync) > before })
			}
			if n := fs.Count(faultfs.Sync) - before; !want(n) {
				t.Errorf("%d syncs for 100 records, freq 10", n)
			}
			if err := j.Sync(); err != nil {
				t.Fatal(err)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
	if _, _, err := Open(Options{Dir: t.TempDir(), Flush: "often"}); err == nil {
		t.Error("an unknown flush mode is taken")
	}
}

// TestCrashWindow kills the collector after the sync and before the ACK.
func TestCrashWindow(t *testing.T) {
	t.Parallel()
	for name, mk := range map[string]func(uint32, string) Record{"ours": own, "stock": stockRec} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			send := func(j *Journal, conn uint64, seq uint32, raw string) *Batch {
				b := &Batch{Conn: conn, Sender: from(addr(1)), Managed: true, Received: time.Unix(1, 0), Records: []Record{mk(seq, raw)}}
				if err := put(t, j, b); err != nil {
					t.Fatal(err)
				}
				return b
			}
			j, _ := start(t, Options{Dir: dir}, Resume{})
			send(j, 1, 1, "node=a one")
			send(j, 1, 2, "node=a two") // the ACK never gets there
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			j, old := start(t, Options{Dir: dir}, Resume{})
			if len(old) != 2 {
				t.Fatalf("%d batches replayed, want 2", len(old))
			}
			seq := uint32(2)
			if name == "stock" {
				seq = 3
			}
			b := send(j, 1, seq, "node=a two") // connection numbers begin again
			if len(b.Records) != 0 || len(b.Dropped) != 1 || b.Dropped[0] != (Dropped{"a", 1}) {
				t.Errorf("the resend: %d records kept, dropped %v", len(b.Records), b.Dropped)
			}
			if b := send(j, 1, seq+1, "node=a three"); len(b.Records) != 1 {
				t.Error("the next record is dropped")
			}
			// And once more, from the store's state alone.
			kept := j.Senders()
			if err := j.Trim(99, nil); err != nil {
				t.Fatal(err)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			j, _ = start(t, Options{Dir: dir}, Resume{Place: Place{LSN: 4}, Senders: kept})
			if b := send(j, 7, seq+1, "node=a three"); len(b.Records) != 0 {
				t.Error("a resend is not recognised after a restart without a journal")
			}
		})
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	read := func() (n int) {
		t.Helper()
		if _, err := ReadOnly(Options{Dir: dir}, Place{}, func(*Batch) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := read(); n != 0 {
		t.Errorf("%d batches in an empty folder", n)
	}
	j, _ := start(t, Options{Dir: dir}, Resume{})
	for range 3 {
		if err := put(t, j, batch(1, "x")); err != nil {
			t.Fatal(err)
		}
	}
	if n := read(); n != 3 {
		t.Errorf("%d batches beside the writer, want 3", n)
	}
	if _, err := ReadOnly(Options{Dir: dir + "/nowhere"}, Place{}, nil); err != nil {
		t.Errorf("a folder that does not exist: %v", err)
	}
}
