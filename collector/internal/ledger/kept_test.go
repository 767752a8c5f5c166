package ledger

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestTakeOver has what is said of a host taken over by batches, with the tracker stored and read again, and now and
// then all of it: added up it is what was said.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	for round := range need.Rounds(200, 50) {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		plain, parted := newHost(t), newHost(t)
		sum, kept, batches := map[rowKey]*Row{}, 0, 0
		take := func(rows []*Row) {
			for _, row := range rows {
				k := rowKey{row.Start, row.Length}
				if sum[k] == nil {
					sum[k] = &Row{Start: row.Start, Length: row.Length}
				}
				sum[k].Add(row)
			}
		}
		for range 60 {
			step := []int64{20, 1000, 40_000, 20 * minute, 3 * Hour}[r.IntN(5)]
			for range r.IntN(20) {
				pass := 1 + r.Int64N(step)
				late, skip := int64(0), uint32(1)
				switch { // not both: of gaps that overlap, those are joined that a row has when another comes
				case round%2 == 0:
					late = r.Int64N(3) * r.Int64N(step)
				case r.IntN(10) == 0:
					skip += r.Uint32N(3)
				}
				for _, h := range []*host{plain, parted} {
					h.now += pass
					h.serial += skip
					h.line("type=SYSCALL msg=audit(%s:%d): arch=c000003e", at(h.now-late), h.serial)
					h.Event(h.now-late, h.now)
				}
			}
			batches++
			if r.IntN(8) == 0 {
				take(parted.Take(parted.now))
			} else {
				take(parted.TakeOver(parted.now))
			}
			// A batch begins where chains end: what Take does to them is a part of what is said.
			plain.close(plain.now)
			if parted.Holds() {
				kept++
			}
			back, err := Restore(parted.Encode())
			if err != nil {
				t.Fatal(err)
			}
			parted.Host = back
		}
		take(parted.Take(parted.now))
		if parted.Holds() {
			t.Fatalf("round %d: something is held after Take", round)
		}
		want := map[rowKey]*Row{}
		for _, row := range plain.Take(plain.now) {
			want[rowKey{row.Start, row.Length}] = row
		}
		if d := cmp.Diff(want, sum, cmp.AllowUnexported(rowKey{})); d != "" {
			t.Fatalf("round %d (-said +taken):\n%s", round, d)
		}
		if kept < batches/2 {
			t.Errorf("round %d: a row was kept after %d of %d batches", round, kept, batches)
		}
	}
}

// TestKeptIsBounded has a host say so much of an hour that its row is not written again with each batch.
func TestKeptIsBounded(t *testing.T) {
	h := NewHost()
	for i := range int64(2 * maxKeptEntries) {
		h.enter(Kernel, noon+i*3*minute, noon+i*3*minute+1, 1, noon)
	}
	h.count(noon+59*minute, noon, 1, 1)
	h.last = noon + 59*minute
	if rows := h.TakeOver(noon); len(rows) != 1 || len(rows[0].Entries) != 2*maxKeptEntries || h.Holds() {
		t.Errorf("%d rows are taken over, want the one", len(rows))
	}
	if n := len(h.Encode()); n > 60 {
		t.Errorf("a tracker of %d bytes", n)
	}
}

// TestKeptRowOfAnother refuses rows that no tracker has.
func TestKeptRowOfAnother(t *testing.T) {
	h := NewHost()
	h.count(noon, noon, 3, 1)
	h.last = noon
	h.TakeOver(noon)
	b := h.Encode()
	back, err := Restore(b)
	if err != nil || !back.Holds() || fmt.Sprint(*back.at) != fmt.Sprint(*h.at) {
		t.Fatalf("%+v, %v, want %+v", back.at, err, h.at)
	}
	for i := range b {
		if _, err := Restore(b[:i]); err == nil {
			t.Errorf("%d bytes of %d are a tracker", i, len(b))
		}
	}
	old := append([]byte{3}, b[1:]...) // version 3 has no rows
	if _, err := Restore(old); err == nil {
		t.Error("a row in a tracker of version 3")
	}
}
