package upkeep

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
)

func mustSalvage(t *testing.T, dir, file string) *SalvageReport {
	t.Helper()
	rep, err := Salvage(context.Background(), SalvageOptions{Dir: dir, File: file})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// partFile is the n-th partition of a store.
func partFile(t *testing.T, dir string, n int) string {
	t.Helper()
	parts, err := filepath.Glob(filepath.Join(dir, "partitions/*.db"))
	if err != nil || len(parts) <= n {
		t.Fatalf("%v, %v", parts, err)
	}
	return parts[n]
}

// A day that was set aside whole comes back whole, once, and the counters agree,
// however often it is asked for.
func TestSalvageDay(t *testing.T) {
	t.Parallel()
	for n := range 3 { // the last is the one that was written, whose state is lost with it
		dir := made(t)
		want, err := contents(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		path := partFile(t, dir, n)
		aside := path + ".corrupt-1"
		if err := os.Rename(path, aside); err != nil {
			t.Fatal(err)
		}
		rep := mustSalvage(t, dir, aside)
		if rep.Lost != 0 || len(rep.Damage) > 0 || rep.Renamed != path+".salvaged-1" || rep.Part.String()+".db" != filepath.Base(path) || n < 2 && rep.Events < 150 {
			t.Errorf("part %d: %+v", n, rep)
		}
		for range 2 {
			if got, err := contents(t, dir); err != nil || !slices.Equal(got, want) {
				t.Errorf("part %d: %d lines, %v; want %d; %+v", n, len(got), err, len(want), rep)
			}
			clean(t, dir)
			if err := os.Rename(path+".salvaged-1", aside); err != nil {
				t.Fatal(err)
			}
			if rep := mustSalvage(t, dir, aside); rep.Events != 0 || rep.Records != 0 || rep.Present == 0 {
				t.Errorf("part %d, again: %+v", n, rep)
			}
		}
		// A collector goes on with it.
		r := startRig(t, dir, 60<<10)
		r.put(t, 3, 50)
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
		clean(t, dir)
	}
}

// The day that was written last is lost, and the record of an open event is in the
// journal as a copy alone: it is there once after salvage, and waits for its event.
func TestSalvageDayCarried(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	r := startRig(t, dir, 60<<10)
	r.leaveOpen(t, 0)
	for day := range 2 {
		r.put(t, day, 250)
	}
	for n := 0; r.j.Stats().Carried == 0 || r.j.Stats().FirstLSN <= 1; n++ {
		if n == 40 {
			t.Fatalf("nothing is carried: %+v", r.j.Stats())
		}
		r.put(t, 1, 50)
	}
	r.put(t, 2, 600)
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	clean(t, dir)
	want, err := contents(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	path := partFile(t, dir, 2)
	aside := path + ".corrupt-1"
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	if rep := mustSalvage(t, dir, aside); rep.Lost != 0 || rep.Records == 0 {
		t.Errorf("%+v", rep)
	}
	clean(t, dir)
	if got, err := contents(t, dir); err != nil || !slices.Equal(got, want) {
		t.Errorf("%d lines, %v; want %d", len(got), err, len(want))
	}
	r = startRig(t, dir, 60<<10)
	r.put(t, 3, 50)
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	rep := clean(t, dir)
	if !rep.Journal.Carried[1] {
		t.Errorf("carried: %v", rep.Journal.Carried)
	}
	got, err := contents(t, dir)
	if n := strings.Count(strings.Join(got, "\n"), "node=open "); err != nil || n != 1 {
		t.Errorf("the record of the open event is there %d times, %v", n, err)
	}
}

// Of a damaged day, what checksums hold good comes back, each record once and as it
// was; what does not is counted.
func TestSalvageDamaged(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	whole := made(t)
	want, err := contents(t, whole)
	if err != nil {
		t.Fatal(err)
	}
	total := clean(t, whole).Parts[1].Events
	brought, rounds := uint64(0), need.Rounds(12, 4)
	for range rounds {
		dir := dead(t, whole)
		path := partFile(t, dir, 1)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		used := 0
		for i, c := range b {
			if c != 0 {
				used = i + 1
			}
		}
		for range 1 + rng.IntN(4) {
			b[2*os.Getpagesize()+rng.IntN(used-2*os.Getpagesize())] ^= 1 << rng.IntN(8)
		}
		aside := path + ".corrupt-77"
		if err := errors.Join(os.WriteFile(aside, b, 0o600), os.Remove(path)); err != nil {
			t.Fatal(err)
		}
		rep := mustSalvage(t, dir, aside)
		brought += rep.Events
		if rep.Events+rep.Lost < total && len(rep.Damage) == 0 || rep.Events > total {
			t.Errorf("%d events brought back, %d lost, of %d: %q", rep.Events, rep.Lost, total, rep.Damage)
		}
		got, err := contents(t, dir)
		if err != nil {
			t.Errorf("what was brought back is damaged: %v", err)
		}
		left := slices.Clone(want)
		for _, l := range got {
			if strings.HasPrefix(l, "host ") {
				continue
			}
			i, ok := slices.BinarySearch(left, l)
			if !ok {
				t.Errorf("twice, or never sent: %.120s", l)
				continue
			}
			left = slices.Delete(left, i, i+1)
		}
		for _, d := range mustVerify(t, dir).Damage {
			if !strings.Contains(d, "the others were lost") {
				t.Errorf("after it: %s", d)
			}
		}
	}
	if brought == 0 {
		t.Error("nothing was ever brought back: the test shows nothing")
	}
	t.Logf("%d of %d events brought back", brought, uint64(rounds)*total)
}

// The partition being written was set aside: some of it came again from the
// journal, and the rest is brought back.
func TestSalvageToday(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	r := startRig(t, dir, 20<<10)
	s := newSent()
	today := need.Size(6000, 1500)
	for day, n := range []int{300, today} {
		if err := s.send(context.Background(), r, n, storetest.Start.AddDate(0, 0, day), false); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	last := partFile(t, dir, 1)
	aside := last + ".corrupt-5"
	if err := os.Rename(last, aside); err != nil {
		t.Fatal(err)
	}
	r = startRig(t, dir, 20<<10)
	if err := s.send(context.Background(), r, 100, storetest.Start.AddDate(0, 0, 1), false); err != nil {
		t.Fatal(err)
	}
	if _, err := Salvage(context.Background(), SalvageOptions{Dir: dir, File: aside}); !errors.Is(err, store.ErrInUse) {
		t.Errorf("beside a collector: %v, want ErrInUse", err)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	rep := mustSalvage(t, dir, aside)
	if rep.Events == 0 || rep.Present == 0 || rep.Events+rep.Present != uint64(today) {
		t.Errorf("%+v: some of %d had to come from the journal, the others from the file", rep, today)
	}
	s.check(t, dir, nil)
	clean(t, dir)
}

func TestSalvageRefuses(t *testing.T) {
	t.Parallel()
	dir := made(t)
	aside := partFile(t, dir, 0) + ".corrupt-1"
	for file, want := range map[string]error{
		filepath.Join(dir, "senders.db"): store.ErrNotOurs,
		aside:                            os.ErrNotExist,
	} {
		if _, err := Salvage(context.Background(), SalvageOptions{Dir: dir, File: file}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", file, err, want)
		}
	}
	if err := os.Rename(partFile(t, dir, 0), aside); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(t.TempDir(), "none")
	if _, err := Salvage(context.Background(), SalvageOptions{Dir: none, File: aside}); err == nil {
		t.Error("a store that is not there was made")
	}
	if _, err := os.Stat(none); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a store that is not there was made: %v", err)
	}
	if _, err := os.Stat(aside); err != nil {
		t.Error(fmt.Errorf("the file was moved: %w", err))
	}
}
