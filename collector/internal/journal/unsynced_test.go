package journal

import (
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// TestUnsyncedHole: a power loss takes records out of the middle of what was not synced, and leaves later
// ones. Whoever looks at the journal then, before its next start or after it, finds neither damage nor a hole;
// nor in a copy of it.
func TestUnsyncedHole(t *testing.T) {
	t.Parallel()
	holes := 0
	for seed := int64(1); seed <= 80; seed++ {
		fs := faultfs.New(seed)
		o := Options{FS: fs, Dir: "/j", Flush: FlushNone, SegmentBytes: 8192}
		j, _ := start(t, o, Resume{})
		put := func(n int) {
			for range n {
				if err := put(t, j, batch(1, strings.Repeat("x", 60))); err != nil {
					t.Fatal(err)
				}
			}
		}
		put(int(seed % 80)) // the rest begins here and there in a segment
		if err := j.Sync(); err != nil {
			t.Fatal(err)
		}
		put(40)
		fs.CutPower(1)
		_ = j.Close() // the machine is gone
		fs.Crash()
		look := func(when string, o Options) *Report {
			t.Helper()
			rep, err := Verify(o, nil, nil)
			if err != nil {
				t.Fatalf("seed %d: %s: %v", seed, when, err)
			}
			if len(rep.Disk.Damaged)+len(rep.Holes)+len(rep.Bad) > 0 {
				t.Errorf("seed %d: %s: damage %v, holes %v, bad %v; the disk: %v", seed, when, rep.Disk.Damaged, rep.Holes, rep.Bad, rep.Disk)
			}
			damage, err := ReadOnly(o, Place{}, func(*Batch) error { return nil })
			if err != nil || len(damage) > 0 {
				t.Errorf("seed %d: %s: who reads it hears of damage: %v %v", seed, when, damage, err)
			}
			return rep
		}
		rep := look("before a start", o)
		holes += len(rep.Unsynced)
		c, err := NewCopier(o, Options{FS: fs, Dir: "/copy"})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Take(func(*Batch) bool { return true }); err != nil || len(c.Damage) > 0 {
			t.Errorf("seed %d: a copy hears of damage: %v %v", seed, c.Damage, err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		j, _ = start(t, o, Resume{})
		put(20)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if after := look("after a start", o); len(after.Unsynced) < len(rep.Unsynced) {
			t.Errorf("seed %d: holes %v before a start, %v after it", seed, rep.Unsynced, after.Unsynced)
		}
	}
	if holes < 20 {
		t.Errorf("only %d holes: the test shows little", holes)
	}
	t.Logf("%d holes", holes)
}

// TestHolesAreExplained: of the LSNs that no entry has, those of entries that were never synced are no holes,
// also before the first entry and where a carried one lies between.
func TestHolesAreExplained(t *testing.T) {
	t.Parallel()
	b := func(first uint64, carried bool) *Batch {
		return &Batch{First: first, Carried: carried, Records: []Record{{Raw: []byte("x")}}}
	}
	rep := &Report{Disk: &seglog.Recovery{First: 5, Unsynced: []seglog.Damage{{First: 5, Last: 6}, {First: 8, Last: 8}}, Gaps: []seglog.Gap{{First: 11, Last: 11}, {First: 13, Last: 13, Unsynced: true}}}}
	rep.count(7, b(100, false))
	rep.count(9, b(3, true))
	rep.count(10, b(110, false)) // entry 8 is explained
	rep.count(12, b(120, false)) // 11 was damaged
	rep.count(14, b(130, false)) // 13 is explained
	rep.count(15, b(140, false)) // no entry is missing, numbers are
	if want := []Range{{111, 119}, {131, 139}}; !rep.Front || !slices.Equal(rep.Holes, want) {
		t.Errorf("front %v, holes %v, want %v", rep.Front, rep.Holes, want)
	}
	if want := []Range{{101, 109}, {121, 129}}; !slices.Equal(rep.Unsynced, want) {
		t.Errorf("never synced %v, want %v", rep.Unsynced, want)
	}
}
