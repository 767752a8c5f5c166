//go:build power

package powercut

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// setting is a number that the environment may replace.
func setting(t *testing.T, name string, def int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// plan draws cuts between two points of a log, in ascending order, all kinds alike. Half of them are
// right before a flush, where most can be missing: half of these where a flush had most to do.
func plan(t *testing.T, log *Log, from, to, number int) []Cut {
	t.Helper()
	rng := rand.New(rand.NewPCG(need.Seed(t), 16))
	var flushes []int // by how much they had to do
	pending := map[int]int{}
	for i, n := from, 0; i < to; i++ {
		n++
		if log.Entries[i].Flags&Flush != 0 {
			flushes = append(flushes, i)
			pending[i], n = n, 0
		}
	}
	slices.SortStableFunc(flushes, func(a, b int) int { return cmp.Compare(pending[b], pending[a]) })
	if len(flushes) < number/4 {
		t.Fatalf("%d flushes in %d entries: the disk is not told to flush", len(flushes), to-from)
	}
	cuts := make([]Cut, number)
	for i := range cuts {
		cuts[i] = Cut{Entries: from + 1 + rng.IntN(to-from), Kind: Kind(i % Kinds), Seed: rng.Uint64()}
		switch rng.IntN(4) {
		case 0:
			cuts[i].Entries = flushes[rng.IntN(len(flushes))]
		case 1:
			cuts[i].Entries = flushes[rng.IntN(1+len(flushes)/20)]
		}
	}
	slices.SortFunc(cuts, func(a, b Cut) int { return cmp.Compare(a.Entries, b.Entries) })
	return cuts
}

// tally is what became of the cuts.
type tally struct {
	mu                             sync.Mutex // guards what follows
	cuts, bare, missing, unflushed int        // bare: nothing was in the disk's cache
	failed                         [Kinds]int
	kinds                          [Kinds]int
}

func (a *tally) add(c Cut, missing, unflushed int, failed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cuts++
	a.kinds[c.Kind]++
	a.missing += missing
	a.unflushed += unflushed
	if unflushed == 0 {
		a.bare++
	}
	if failed {
		a.failed[c.Kind]++
	}
}

func (a *tally) String() string {
	text := fmt.Sprintf("%d cuts, %d of them with nothing in the disk's cache; in the others %d of %d writes were lost;", a.cuts, a.bare, a.missing, a.unflushed)
	for k := range Kinds {
		text += fmt.Sprintf(" %v: %d of %d held;", Kind(k), a.kinds[k]-a.failed[k], a.kinds[k])
	}
	return text
}

// eachCut makes the disk of every cut, mounts it and has check look at it, two at a time. also makes what
// else is needed for a cut, in their order; it may be nil.
func eachCut(t *testing.T, dir string, disk *Disk, cuts []Cut, also func(c Cut, name string) error, check func(c Cut, name, mnt string) error) {
	t.Helper()
	type job struct {
		c                  Cut
		n                  int
		missing, unflushed int
	}
	var sum tally
	jobs := make(chan job)
	var wg sync.WaitGroup
	base := func(n int) string { return filepath.Join(dir, fmt.Sprintf("cut%d", n)) }
	one := func(j job) error {
		mnt := base(j.n) + ".mnt"
		if err := os.MkdirAll(mnt, 0o700); err != nil {
			return err
		}
		if err := Mount(base(j.n), mnt); err != nil {
			return fmt.Errorf("the filesystem itself: %w", err)
		}
		err := check(j.c, base(j.n), mnt)
		if err2 := Unmount(mnt); err2 != nil {
			return err2
		}
		return err
	}
	for range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := range jobs {
				err := one(j)
				sum.add(j.c, j.missing, j.unflushed, err != nil)
				if err != nil {
					t.Errorf("cut %d (%v): %v", j.n, j.c, err)
					if keep := os.Getenv("POWER_KEEP"); keep != "" {
						_ = run("cp", "--sparse=always", base(j.n), filepath.Join(keep, fmt.Sprintf("%s-%d.img", t.Name(), j.n)))
					}
				}
				files, _ := filepath.Glob(base(j.n) + "*")
				for _, f := range files {
					if f == base(j.n) || len(f) > len(base(j.n)) && f[len(base(j.n))] == '.' {
						_ = os.RemoveAll(f)
					}
				}
			}
		}()
	}
	for n, c := range cuts {
		missing, unflushed, err := disk.Make(c, base(n))
		if err == nil && also != nil {
			err = also(c, base(n))
		}
		if err != nil {
			t.Error(err)
			break
		}
		jobs <- job{c, n, missing, unflushed}
	}
	close(jobs)
	wg.Wait()
	t.Log(&sum)
}
