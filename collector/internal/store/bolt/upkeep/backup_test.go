package upkeep

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

func mustBackup(t testing.TB, dir, target string) *BackupReport {
	t.Helper()
	rep, err := Backup(context.Background(), BackupOptions{Dir: dir, Target: target})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range rep.Damage {
		t.Errorf("damage: %s", d)
	}
	return rep
}

// restore copies a backup's store back, as `cp -a` does.
func restore(t testing.TB, target string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	from := filepath.Join(target, backupStore)
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(to, 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestBackupAtRest: the copy of a store that nobody writes holds the same.
func TestBackupAtRest(t *testing.T) {
	t.Parallel()
	dir, target := made(t), filepath.Join(t.TempDir(), "backup")
	rep := mustBackup(t, dir, target)
	if rep.Copied != 3 || rep.Kept != 0 || rep.Server != "" || rep.Entries == 0 {
		t.Errorf("%+v", rep)
	}
	want, err := contents(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	back := restore(t, target)
	clean(t, back)
	if got, err := contents(t, back); err != nil || !slices.Equal(got, want) {
		t.Errorf("restored: %d lines, %v; want %d", len(got), err, len(want))
	}
}

// TestBackupUnderLoad backs up again and again while events come in and days go
// by: what was acknowledged before each began is there once, and a collector goes
// on with the copy.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	dir, target := filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "backup")
	r := startRig(t, dir, 60<<10)
	var mu sync.Mutex // guards acked
	acked := map[string]int{}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			time.Sleep(200 * time.Microsecond) // the rest of the test wants to get on
			if i%250 == 249 {                  // as SIGUSR1 does: a day gets several partitions
				if err := r.st.Rotate(context.Background()); err != nil {
					t.Error(err)
				}
			}
			host, recs := r.gen.Event()
			b := &journal.Batch{Conn: 1, Sender: journal.Sender{Addr: netip.MustParseAddrPort("192.0.2.1:60"), Node: host, Transport: event.TransportTCP}, Received: storetest.Start.AddDate(0, 0, min(i/400, 9))}
			for _, raw := range recs {
				b.Records = append(b.Records, journal.Record{Raw: raw})
			}
			err := r.j.Submit(context.Background(), b, func(err error) {
				mu.Lock()
				defer mu.Unlock()
				for _, raw := range recs {
					if err == nil {
						acked[string(raw)]++
					}
				}
			})
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	defer func() { close(stop); wg.Wait() }()
	kept, sealed := 0, 0
	// Partitions of a day that is over are the same in two backups.
	for round := 0; round < need.Rounds(6, 2) || kept == 0 && !testing.Short() && round < 30; round++ {
		// However busy the machine is, each backup finds another partition that no batch goes to any more.
		need.Wait(t, "another partition is sealed", func() bool {
			stats, err := r.st.Stats(t.Context())
			if err != nil {
				t.Error(err)
			}
			n := 0
			for _, p := range stats.Parts {
				if p.Sealed && p.Events > 0 {
					n++
				}
			}
			if n <= sealed {
				return t.Failed()
			}
			sealed = n
			return true
		})
		mu.Lock()
		before := make(map[string]int, len(acked))
		for k, n := range acked {
			before[k] = n
		}
		mu.Unlock()
		rep := mustBackup(t, dir, target)
		kept += rep.Kept
		if rep.Server == "" {
			t.Error("the collector was not noticed")
		}
		back := restore(t, target)
		if v := clean(t, back); v.Readable == 0 {
			t.Errorf("backup %d has nothing in %d partitions", round, len(v.Parts))
		}
		got, err := contents(t, back)
		if err != nil {
			t.Error(err)
		}
		found := make(map[string]int, len(got))
		for _, raw := range got {
			found[raw]++
		}
		missing := 0
		for raw, n := range before {
			if found[raw] != n {
				missing++
			}
		}
		if missing > 0 {
			t.Errorf("of %d records acknowledged before, %d are not there as often as they were sent", len(before), missing)
		}
		next := startRig(t, back, 60<<10)
		next.put(t, 5, 50)
		if err := next.close(); err != nil {
			t.Error(err)
		}
		clean(t, back)
		if t.Failed() {
			return
		}
	}
	if kept == 0 && !testing.Short() {
		t.Error("no partition was in two backups")
	}
}

// TestBackupIncremental: a sealed day is copied once, then it is the same file;
// one that changed is copied again; days that were dropped go.
func TestBackupIncremental(t *testing.T) {
	t.Parallel()
	dir, target := made(t), filepath.Join(t.TempDir(), "backup")
	mustBackup(t, dir, target)
	inode := func(i int) os.FileInfo {
		m, _ := filepath.Glob(filepath.Join(target, backupStore, "partitions/*.db"))
		if len(m) <= i {
			t.Fatalf("%d partitions in the backup", len(m))
		}
		info, err := os.Stat(m[i])
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	first, last := inode(0), inode(2)
	rep := mustBackup(t, dir, target)
	if rep.Kept != 2 || rep.Copied != 1 || !os.SameFile(first, inode(0)) || os.SameFile(last, inode(2)) {
		t.Errorf("second backup: %+v; want the two sealed days kept", rep)
	}
	parts, _ := filepath.Glob(filepath.Join(dir, "partitions/*.db"))
	// Changed in place, though no program of ours does that to a sealed day.
	b, err := os.ReadFile(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(parts[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if rep := mustBackup(t, dir, target); rep.Kept != 1 || os.SameFile(first, inode(0)) {
		t.Errorf("after a change: %+v", rep)
	}
	dropOldest(t, dir)
	if rep := mustBackup(t, dir, target); rep.Kept+rep.Copied != 2 {
		t.Errorf("after a day was dropped: %+v", rep)
	}
	clean(t, restore(t, target))
	for _, name := range []string{backupNew, backupStore + ".old"} {
		if _, err := os.Stat(filepath.Join(target, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was left: %v", name, err)
		}
	}
}

func TestBackupRefuses(t *testing.T) {
	t.Parallel()
	dir := made(t)
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "letter.txt"), []byte("dear"), 0o600); err != nil {
		t.Fatal(err)
	}
	marked := t.TempDir()
	if err := os.WriteFile(filepath.Join(marked, backupMarker), []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"other things": foreign, "another marker": marked, "the store itself": dir, "within the store": filepath.Join(dir, "backup"), "around the store": filepath.Dir(dir),
	} {
		if _, err := Backup(context.Background(), BackupOptions{Dir: dir, Target: target}); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(foreign, "letter.txt")); err != nil || string(b) != "dear" {
		t.Errorf("the foreign folder was touched: %q, %v", b, err)
	}
	// Two at once, and one that was interrupted.
	target := filepath.Join(t.TempDir(), "backup")
	mustBackup(t, dir, target)
	b := &backup{o: BackupOptions{Dir: dir, Target: target}}
	unlock, err := b.claim()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Backup(context.Background(), BackupOptions{Dir: dir, Target: target}); !errors.Is(err, ErrRunning) {
		t.Errorf("two at once: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Backup(ctx, BackupOptions{Dir: dir, Target: target}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	clean(t, restore(t, target))
}

// TestBackupOfDamage copies damaged bytes as they are, and says what it saw.
func TestBackupOfDamage(t *testing.T) {
	t.Parallel()
	dir, target := made(t), filepath.Join(t.TempDir(), "backup")
	segments, _ := filepath.Glob(filepath.Join(dir, "journal/*.seg"))
	parts, _ := filepath.Glob(filepath.Join(dir, "partitions/*.db"))
	defer flip(t, segments[0], 5000, 4)()
	last := parts[len(parts)-1]
	b, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	// Somewhere in a group of the day that is not copied as a file.
	source := mustVerify(t, dir)
	for at := int64(strings.LastIndex(string(b), "AFGROUP\x00")) + 1000; source.Lost == 0; at += 200 {
		undo := flip(t, last, at, 4)
		if source = mustVerify(t, dir); source.Lost == 0 {
			undo()
		} else {
			defer undo()
		}
	}
	rep, err := Backup(context.Background(), BackupOptions{Dir: dir, Target: target})
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Damage) != 1 || !strings.HasPrefix(rep.Damage[0], segments[0]+": damaged at offset ") {
		t.Errorf("damage: %q; want the journal's", rep.Damage)
	}
	if copied := mustVerify(t, restore(t, target)); copied.Readable != source.Readable || copied.Lost != source.Lost {
		t.Errorf("%d events readable in the copy, %d not; %d and %d in the store", copied.Readable, copied.Lost, source.Readable, source.Lost)
	}
}

// dropOldest has the store's oldest partition dropped, as retention does it.
func dropOldest(t *testing.T, dir string) {
	t.Helper()
	st, err := bolt.Open(bolt.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stats, err := st.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(st.Drop(context.Background(), stats.Parts[0].Part, "max_days = 1"), st.Close()); err != nil {
		t.Fatal(err)
	}
}

// Holds are in a backup, with a number that is theirs; a damaged list is there damaged.
func TestBackupHolds(t *testing.T) {
	dir, target := filepath.Join(t.TempDir(), "st"), filepath.Join(t.TempDir(), "bk")
	st, err := bolt.Open(bolt.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	add := func(what string) {
		t.Helper()
		if _, err := hold.Open(fsys.OS, dir, st).Change(hold.Change{Add: []string{what}}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	restored := func() (*hold.Set, func()) {
		t.Helper()
		back := restore(t, target)
		st, err := bolt.Open(bolt.Options{Dir: back})
		if err != nil {
			t.Fatal(err)
		}
		return hold.Open(fsys.OS, back, st), func() { st.Close() }
	}
	mustBackup(t, dir, target)
	set, end := restored()
	if len(set.List()) != 0 || set.Broken() != nil {
		t.Errorf("without holds: %v, %v", set.List(), set.Broken())
	}
	end()
	add("web1")
	add("2026-11-22")
	mustBackup(t, dir, target)
	set, end = restored()
	if l := set.List(); len(l) != 2 || set.Broken() != nil {
		t.Errorf("holds in the backup: %v, %v", l, set.Broken())
	}
	end()
	if err := os.WriteFile(filepath.Join(dir, hold.Name), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	rep, err := Backup(context.Background(), BackupOptions{Dir: dir, Target: target})
	if err != nil || len(rep.Damage) != 1 {
		t.Errorf("a damaged list: %v, %v", rep, err)
	}
	set, end = restored()
	if set.Broken() == nil {
		t.Error("the copy of a damaged list is believed")
	}
	end()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}
