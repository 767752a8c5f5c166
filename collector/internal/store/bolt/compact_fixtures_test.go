package bolt

import (
	"context"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/golden"
)

// filesOf returns the names of a fixture's files.
func filesOf(t *testing.T, version string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(filepath.Join("testdata", version))
	must(t, err)
	for _, e := range list {
		name := strings.TrimSuffix(e.Name(), ".zst")
		for _, dir := range []string{layout.Partitions, "seal"} {
			if base, ok := strings.CutPrefix(name, dir+"_"); ok {
				name = filepath.Join(dir, base)
			}
		}
		names = append(names, name)
	}
	return names
}

// version6 makes a store with a day that is compacted, one that runs with a part that was merged, one that was ended and one that gets batches,
// and an import.
func version6(t *testing.T, dir string) {
	t.Helper()
	s := open(t, Options{Dir: dir, now: func() time.Time { return storetest.Start }})
	today := store.DayOf(storetest.Start)
	add := func(id uint64, day int, name string) {
		tab := store.NewTable()
		storetest.Fill(tab, storetest.NewGenerator(id, storetest.Templates(t), 3, storetest.Start.AddDate(0, 0, day)), 30)
		b := &store.Batch{ID: id, Day: today + store.Day(day), Events: tab, LSN: 100 * id, Hosts: []store.Host{{Name: "web1", Records: id}}}
		if name != "" {
			b.Day, b.Import, b.Hosts = today, &store.Import{Name: name}, nil
		}
		must(t, s.Append(context.Background(), b))
	}
	add(1, -2, "")
	add(2, 0, "")
	add(3, 0, "")
	mergeAll(t, s, merging)
	add(4, -900, "old")
	must(t, s.EndImport(context.Background(), "old"))
	add(5, 0, "")
	must(t, s.Rotate(context.Background()))
	add(6, 0, "")
	must(t, s.Close())
}

// pack writes a store's files as a fixture.
func pack(t *testing.T, version, dir string) {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	must(t, err)
	must(t, os.MkdirAll(filepath.Join("testdata", version), 0o755))
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == layout.LockName || d.Name() == "reserve" {
			return err
		}
		name, err := filepath.Rel(dir, path)
		must(t, err)
		b, err := os.ReadFile(path)
		must(t, err)
		return os.WriteFile(fixture(version, name), enc.EncodeAll(b, nil), 0o600)
	}))
}

// Stores as each version wrote them give the same answers once they are compacted: those with several parts of a day (2), without a log (4), with
// one (5), with an import and parts that compaction has made (6).
func TestCompactFixtures(t *testing.T) {
	t.Parallel()
	if golden.Update() {
		dir := t.TempDir()
		version6(t, dir)
		pack(t, "v6", dir)
	}
	for version, events := range map[string]int{"v1": 240, "v2": 420, "v3": 0, "v4": 420, "v5": 420, "v6": 180} {
		dir := unpacked(t, version, filesOf(t, version))
		if v, err := layout.ReadMarker(dir, true); err != nil || "v"+string(rune('0'+v)) != version {
			t.Errorf("%s: it is of version %d, %v", version, v, err)
		}
		s := open(t, Options{Dir: dir, now: later})
		want := whole(t, s)
		if len(want) != events && events != 0 || len(want) == 0 {
			t.Errorf("%s: %d events, want %d", version, len(want), events)
		}
		state, err := s.State(context.Background())
		must(t, err)
		if n := compactAll(t, s); n < 1 {
			t.Errorf("%s: %d compactions", version, n)
		}
		for range 2 {
			if d := cmp.Diff(want, whole(t, s)); d != "" {
				t.Errorf("%s (-before +after):\n%.1000s", version, d)
			}
			for _, p := range s.parts {
				if p != s.cur && (p.compacted == nil || p.merged()) {
					t.Errorf("%s: %s is not compacted", version, p.part)
				}
			}
			allSealed(t, s, version)
			now, err := s.State(context.Background())
			must(t, err)
			if d := cmp.Diff(state, now, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
				t.Errorf("%s: state (-before +after):\n%s", version, d)
			}
			must(t, s.Close())
			s = open(t, Options{Dir: dir, now: later})
		}
	}
}
