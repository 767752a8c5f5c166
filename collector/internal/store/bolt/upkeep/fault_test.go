package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// sentRecords counts what was acknowledged.
type sentRecords struct {
	mu    sync.Mutex // guards acked
	acked map[string]int
	n     atomic.Uint64
}

func newSent() *sentRecords { return &sentRecords{acked: map[string]int{}} }

// send submits n whole events, received at a time, one record a batch where alone.
func (s *sentRecords) send(ctx context.Context, r *rig, n int, at time.Time, wait bool) error {
	var wg sync.WaitGroup
	for range n {
		id := s.n.Add(1)
		host := fmt.Sprintf("web%d", id%5)
		raw := fmt.Sprintf("node=%s type=USER_LOGIN msg=audit(%d.%03d:%d): pid=%d uid=0 n=%d", host, storetest.Start.Unix()+int64(id/1000), id%1000, id, id%300, id)
		b := &journal.Batch{Conn: 7, Sender: journal.Sender{Addr: netip.MustParseAddrPort("192.0.2.9:60"), Transport: event.TransportTCP}, Received: at, Records: []journal.Record{{Raw: []byte(raw)}}}
		wg.Add(1)
		err := r.j.Submit(ctx, b, func(err error) {
			defer wg.Done()
			s.mu.Lock()
			defer s.mu.Unlock()
			if err == nil {
				s.acked[raw]++
			}
		})
		if err != nil {
			wg.Done()
			return err
		}
		if wait {
			wg.Wait()
		}
	}
	wg.Wait()
	return nil
}

// check compares what a store holds with what was acknowledged; lost says which
// records may be missing.
func (s *sentRecords) check(t *testing.T, dir string, lost func(raw string) bool) {
	t.Helper()
	got, err := contents(t, dir)
	if err != nil && lost == nil {
		t.Error(err)
	}
	found := map[string]int{}
	for _, raw := range got {
		found[raw]++
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	missing, twice := 0, 0
	for raw := range s.acked {
		switch n := found[raw]; {
		case n == 0 && (lost == nil || !lost(raw)):
			missing++
		case n > 1:
			twice++
		}
	}
	if missing+twice > 0 {
		t.Errorf("of %d acknowledged records %d are missing and %d there more than once", len(s.acked), missing, twice)
	}
}

// dead copies a store's folder as a kill leaves it: nothing was closed.
func dead(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "dead")
	for attempt := 0; ; attempt++ {
		err := os.CopyFS(to, os.DirFS(dir))
		if err == nil {
			return to
		}
		if !errors.Is(err, fs.ErrNotExist) || attempt == 5 {
			t.Fatal(err)
		}
		os.RemoveAll(to)
	}
}

// TestJournalTails restarts on journals whose end is torn or rotten: what was not
// hit is there, once; what was hit is named; and service goes on.
func TestJournalTails(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	src := filepath.Join(t.TempDir(), "store")
	r := startRig(t, src, 40<<10)
	s := newSent()
	if err := s.send(context.Background(), r, 600, storetest.Start, false); err != nil {
		t.Fatal(err)
	}
	if err := s.send(context.Background(), r, 60, storetest.Start, true); err != nil {
		t.Fatal(err)
	}
	if err := r.h.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	// In the journal only.
	if err := s.send(context.Background(), r, 100, storetest.Start, true); err != nil {
		t.Fatal(err)
	}
	killed := dead(t, src)
	for i := range need.Rounds(12, 3) {
		dir := dead(t, killed)
		segments, _ := filepath.Glob(filepath.Join(dir, "journal/*.seg"))
		path := segments[len(segments)-1]
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		end := len(b)
		for end > 0 && b[end-1] == 0 {
			end--
		}
		hit := "" // the bytes of the journal that are gone or doubtful
		named := true
		what := ""
		switch i % 3 {
		case 0: // cut
			at := end - 1 - rng.IntN(2000)
			hit, what = string(b[max(0, at-400):end]), fmt.Sprintf("cut at %d of %d", at, end)
			clear(b[at:])
			named = false // between two entries it is an end like any other
		case 1: // a flipped bit near the end
			at := end - 1 - rng.IntN(4000)
			hit, what = string(b[max(0, at-400):min(end, at+400)]), fmt.Sprintf("flipped at %d of %d", at, end)
			b[at] ^= 1 << rng.IntN(8)
		case 2: // a block lost in the middle, as a power loss may
			at := (end - 1 - rng.IntN(8000)) &^ 511
			hit, what = string(b[max(0, at-400):min(end, at+912)]), fmt.Sprintf("block at %d of %d", at, end)
			clear(b[at:min(at+512, end)])
			named = at+512 < end
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		before := mustVerify(t, dir)
		again := startRig(t, dir, 40<<10)
		more := newSent()
		more.n.Store(10_000)
		if err := more.send(context.Background(), again, 50, storetest.Start, true); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if err := again.close(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		after := mustVerify(t, dir)
		s.check(t, dir, func(raw string) bool {
			return strings.Contains(hit, raw[:60]) || strings.Contains(hit, raw[len(raw)-20:])
		})
		more.check(t, dir, nil)
		// Said before the restart, as damage or as a torn end; after it as damage only
		// when entries were lost that had been whole.
		if named && len(before.Damage)+len(before.Notes) == 0 {
			t.Errorf("%s: nothing was named", what)
		}
		for _, d := range after.Damage {
			if !strings.Contains(d, "journal") {
				t.Errorf("%s: after the restart: %s", what, d)
			}
		}
	}
}

// TestClockGoesBack: the clock jumps back over midnight, and further, and forward
// again. Everything is stored once, and days that come again are gone on with.
func TestClockGoesBack(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	r := startRig(t, dir, 20<<10)
	s := newSent()
	for i, day := range []int{0, 1, 0, -30, 1, 2, 2, -1, 0} {
		at := storetest.Start.AddDate(0, 0, day).Add(-time.Duration(i) * time.Hour)
		if err := s.send(context.Background(), r, 120, at, false); err != nil {
			t.Fatal(err)
		}
		if i%3 == 2 {
			if err := r.close(); err != nil {
				t.Fatal(err)
			}
			clean(t, dir)
			r = startRig(t, dir, 20<<10)
		}
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	s.check(t, dir, nil)
	rep := clean(t, dir)
	if len(rep.Parts) != 5 {
		t.Errorf("%d days, want 5", len(rep.Parts))
	}
}

// TestTodayDamaged: the partition of the last batch loses the writer's place. It is
// set aside, the journal's records are stored again, none twice, and verify names
// what is missing and how much of it could be read.
func TestTodayDamaged(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	r := startRig(t, dir, 20<<10)
	s, today := newSent(), newSent()
	today.n.Store(5_000)
	if err := s.send(context.Background(), r, 300, storetest.Start, false); err != nil {
		t.Fatal(err)
	}
	if err := today.send(context.Background(), r, 300, storetest.Start.AddDate(0, 0, 1), false); err != nil {
		t.Fatal(err)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	parts, _ := filepath.Glob(filepath.Join(dir, "partitions/*.db"))
	last := parts[len(parts)-1]
	b, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; ; { // every copy of it, also those no longer in use
		i := strings.Index(string(b[at:]), "state\x02")
		if i < 0 {
			break
		}
		at += i + 7
		b[at] ^= 0x10
	}
	if err := os.WriteFile(last, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if rep := mustVerify(t, dir); !slices.ContainsFunc(rep.Damage, func(d string) bool {
		return strings.HasPrefix(d, last+": offset ") && strings.Contains(d, "the writer's place")
	}) {
		t.Errorf("before the restart: %q", rep.Damage)
	}
	r = startRig(t, dir, 20<<10)
	more := newSent()
	more.n.Store(10_000)
	if err := more.send(context.Background(), r, 100, storetest.Start.AddDate(0, 0, 1), false); err != nil {
		t.Fatal(err)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	none := func(string) bool { return false }
	s.check(t, dir, none)
	more.check(t, dir, none)
	today.check(t, dir, func(string) bool { return true }) // none twice
	// Until the file is dealt with, each search says what it may lack.
	if _, err := contents(t, dir); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), filepath.Base(last)) {
		t.Errorf("a search after the restart: %v", err)
	}
	rep := mustVerify(t, dir)
	if len(rep.Damage) == 0 || !slices.ContainsFunc(rep.Damage, func(d string) bool {
		return strings.HasPrefix(d, last+".corrupt-") && strings.Contains(d, "300 of 300 events in it are readable")
	}) {
		t.Errorf("after the restart: %q", rep.Damage)
	}
}

// TestPartitionsFull: the disk of the partitions is full while the journal's is not.
// Records are acknowledged for as long as memory and journal take them, and when
// there is room again, everything goes on by itself.
func TestPartitionsFull(t *testing.T) {
	t.Parallel()
	need.Root(t)
	dir := filepath.Join(t.TempDir(), "store")
	parts := filepath.Join(dir, "partitions")
	if err := os.MkdirAll(parts, 0o700); err != nil {
		t.Fatal(err)
	}
	need.Tmpfs(t, parts, "size=1200k,mode=0700")
	r := startRig(t, dir, 300<<10)
	s := newSent()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for ctx.Err() == nil {
			if err := s.send(ctx, r, 20, storetest.Start, false); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	}()
	await := func(what string, ok func() bool) {
		t.Helper()
		for until := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(until) {
				t.Errorf("never: %s; %+v", what, r.h.Stats())
				return
			}
		}
	}
	ballast := filepath.Join(parts, "ballast")
	await("something stored", func() bool { return r.h.Stats().StoredID > 0 })
	if f, err := os.Create(ballast); err != nil {
		t.Error(err)
	} else {
		for buf := make([]byte, 4096); ; {
			if _, err := f.Write(buf); err != nil {
				break
			}
		}
		f.Close()
	}
	await("a full disk", func() bool { return errors.Is(r.h.Stats().StoreError, syscall.ENOSPC) })
	at := s.n.Load()
	time.Sleep(300 * time.Millisecond)
	stored := r.h.Stats().StoredID
	if s.n.Load() == at {
		t.Log("no record was taken in meanwhile: memory was full already")
	}
	os.Remove(ballast)
	if err := unix.Mount("tmpfs", parts, "tmpfs", unix.MS_REMOUNT, "size=64m,mode=0700"); err != nil {
		t.Error(err)
	}
	await("service again", func() bool { return r.h.Stats().StoredID > stored+2 && r.h.Stats().StoreError == nil })
	cancel()
	wg.Wait()
	if err := r.close(); err != nil {
		t.Error(err)
	}
	s.check(t, dir, nil)
	clean(t, dir)
}
