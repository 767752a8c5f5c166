package seglog

import (
	"fmt"
	"math/rand"
	"path/filepath"
	"strings"
	"testing"
)

// The power goes at each changing operation of the workload; then the oldest or the
// newest segment is taken away: what is known says so, whenever a confirmed entry
// that was not deleted was in it. (That nothing is said when nothing was taken is
// what every other test with a model finds: half of them keep what is known.)
func TestPowerCutHidesNoDeletion(t *testing.T) {
	missed := 0
	for n := 1; ; n++ {
		for _, newest := range []bool{false, true} {
			m := newModel(int64(2*n), func(format string, args ...any) {
				t.Fatalf("power cut at operation %d: %s", n, fmt.Sprintf(format, args...))
			})
			m.fs.CutPower(n)
			workload(m, rand.New(rand.NewSource(7)))
			if m.fs.Changes() < n {
				t.Logf("%d power cuts, %d deletions missed for good reason", n-1, missed)
				return
			}
			m.fs.Heal()
			m.fs.Crash()
			if err := m.recall(); err != nil {
				t.Fatal(err)
			}
			dir, err := readFolder(m.opt)
			if err != nil || len(dir.segments) == 0 {
				continue // nothing was there yet
			}
			i := 0
			if newest {
				i = len(dir.segments) - 1
			}
			s := dir.segments[i]
			end := m.synced
			if i+1 < len(dir.segments) {
				end = min(end, dir.segments[i+1].first-1)
			}
			if err := m.fs.Remove(filepath.Join(m.opt.Dir, s.name)); err != nil {
				t.Fatal(err)
			}
			rec, err := Inspect(m.opt, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if rec.Clean() {
				missed++
				if s.first <= end && end >= m.cut {
					t.Fatalf("power cut at operation %d: %s had entries up to %d, and is not missed: %+v", n, s.name, end, m.opt.Known)
				}
			}
		}
	}
}

// An unmarked log gets its ID with the next Open: what it has is read on, what comes
// is marked, and another unmarked segment is foreign from then on.
func TestIDComesLater(t *testing.T) {
	for _, entries := range []int{0, 3} {
		o := osOptions(t.TempDir())
		l, _ := mustOpen(t, o)
		for range entries {
			if _, err := l.Append([]byte("old")); err != nil {
				t.Fatal(err)
			}
		}
		must(t, l.Close())
		o.ID = ID{7}
		o.Changed = func(k Known, _ []Damage) error { o.Known = k; return nil }
		for range 2 {
			l, rec := mustOpen(t, o)
			if !rec.Clean() || rec.Last != uint64(entries) {
				t.Fatalf("%+v", rec)
			}
			if l.active.id != o.ID {
				t.Fatal("what comes next is not marked")
			}
			must(t, l.Close())
		}
		if o.Known.Unmarked >= o.Known.Newest {
			t.Fatalf("%+v", o.Known)
		}
		other, _ := mustOpen(t, osOptions(t.TempDir()))
		must(t, other.Close())
		copyFile(t, filepath.Join(other.opt.Dir, segmentName(1, 1)), filepath.Join(o.Dir, segmentName(50, 50)))
		h := header{kind: "test", first: 50, gen: 50, seed: 1}
		rewrite(t, filepath.Join(o.Dir, segmentName(50, 50)), func(b []byte) []byte { copy(b, h.encodePage()); return b })
		rec, err := Inspect(o, nil, nil)
		if err != nil || len(rec.Damaged) != 1 || !strings.Contains(rec.Damaged[0].Err.Error(), "foreign") {
			t.Fatalf("%+v, %v", rec, err)
		}
	}
}
