package seal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// walked are leaves of several kinds, days and times, not in order of either, some of which say so much that a row of them is not read at once.
func walked(n int, rng *rand.Rand) (list []*Leaf) {
	for i := range n {
		day := i/300 + rng.IntN(2)
		l := &Leaf{Kind: Batch, Flags: Elsewhere, Store: [16]byte{7}, Part: fmt.Sprintf("2026-03-%02d", 1+day), Batch: uint64(i + 1), Events: 9}
		l.MinMs = int64(day*1000 + rng.IntN(900))
		l.MaxMs = l.MinMs + int64(rng.IntN(200))
		switch {
		case i%97 == 5:
			l = &Leaf{Kind: Dropped, Flags: Elsewhere, Store: l.Store, Part: ClusterPart + l.Part + ".2", First: 1, Last: uint64(i), Why: "max_days = 2"}
		case i%211 == 7:
			l = &Leaf{Kind: Holds, Store: l.Store, First: uint64(i)}
		case i > 1500 && i < 1503:
			for k := range 400000 {
				l.Hosts = append(l.Hosts, HostCount{Name: fmt.Sprintf("host%06d", k), Events: 1 << 60, Records: 1 << 60})
			}
		}
		list = append(list, l)
	}
	return list
}

// Rows that are passed over have nothing of what is looked for: each walk finds what a reader of all leaves finds, and the next one reads less.
func TestWalk(t *testing.T) {
	disk := &leavesRead{FS: fsys.OS}
	tree, o := makeTree(t, disk, 0)
	rng := rand.New(rand.NewPCG(3, 4))
	var texts [][]byte
	for _, l := range walked(2000, rng) {
		texts = append(texts, l.Encode())
	}
	must(t, tree.AppendTexts(texts))
	// One that is damaged is left out, and makes its row one that may have anything.
	off, _, err := tree.entry(700)
	must(t, err)
	f, err := os.OpenFile(filepath.Join(o.Store, Dir, leavesName), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte{1, 2, 3}, off+recordHead+30)
	must(t, errors.Join(err, f.Close()))

	type ask struct {
		kind       Kind
		from, to   int64 // times; of batches, where to is not 0
		first, end string
		at, size   int64
	}
	naive := func(a ask) (found []int64) {
		for i := a.at; i < a.size; i++ {
			text, err := tree.Text(i)
			if errors.Is(err, ErrDamaged) {
				continue
			}
			must(t, err)
			l, err := ParseLeaf(text)
			must(t, err)
			if l.Kind == a.kind && (a.to == 0 || l.MinMs <= a.to && l.MaxMs >= a.from) && (a.end == "" || l.Part != "" && dayIn(l, a.first, a.end)) {
				found = append(found, i)
			}
		}
		return found
	}
	walk := func(a ask) (found []int64) {
		want := func(r *Row) bool {
			return r.Has(a.kind) && (a.to == 0 || r.HasTime(a.from, a.to)) && (a.end == "" || r.HasDay(a.first, a.end))
		}
		next, err := tree.Walk(t.Context(), a.at, a.size, want, func(i int64, l *Leaf, text []byte) bool {
			whole, err := ParseLeaf(text)
			must(t, err)
			if l.Kind != whole.Kind || l.Part != whole.Part || l.First != whole.First || l.Last != whole.Last || l.Batch != whole.Batch || l.MinMs != whole.MinMs || l.MaxMs != whole.MaxMs || l.Flags != whole.Flags || l.Events != whole.Events {
				t.Fatalf("leaf %d: %+v", i, l)
			}
			if l.Kind == a.kind && (a.to == 0 || l.MinMs <= a.to && l.MaxMs >= a.from) && (a.end == "" || l.Part != "" && dayIn(l, a.first, a.end)) {
				found = append(found, i)
			}
			return true
		})
		must(t, err)
		if next != a.size {
			t.Fatalf("%+v: next is %d", a, next)
		}
		return found
	}
	for range 60 {
		a := ask{kind: []Kind{Batch, Dropped, Holds, Account}[rng.IntN(4)], size: 1 + rng.Int64N(tree.Size())}
		a.at = rng.Int64N(a.size) * rng.Int64N(2)
		if rng.IntN(2) == 0 && a.kind == Batch {
			a.from = rng.Int64N(7000)
			a.to = a.from + 1 + rng.Int64N(900)
		}
		if rng.IntN(3) == 0 {
			day := 1 + rng.IntN(9)
			a.first, a.end = fmt.Sprintf("2026-03-%02d", day), fmt.Sprintf("2026-03-%02d", day+rng.IntN(3))
		}
		if diff := cmp.Diff(naive(a), walk(a)); diff != "" {
			t.Fatalf("%+v (-want +got):\n%s", a, diff)
		}
	}
	reads := 0
	disk.fn = func() { reads++ }
	walk(ask{kind: Batch, from: 2500, to: 2600, size: tree.Size()})
	disk.fn = nil
	if rows := int(tree.Size() / rowLeaves); reads == 0 || reads > rows-2 {
		t.Errorf("%d reads of %d rows", reads, rows)
	}
}

// dayIn reports whether a leaf's part is of a day between two.
func dayIn(l *Leaf, first, last string) bool {
	day := l.Part
	if l.Kind == Dropped {
		day = day[len(ClusterPart):]
	}
	day = day[:len("2006-01-02")]
	return first <= day && day <= last
}

// A walk that is cut short says where it goes on.
func TestWalkGoesOn(t *testing.T) {
	tree, _ := makeTree(t, fsys.OS, 0)
	var texts [][]byte
	for i := range uint64(3 * rowLeaves) {
		texts = append(texts, leafOf(i+1).Encode())
	}
	must(t, tree.AppendTexts(texts))
	all := func(*Row) bool { return true }
	var got []int64
	at, stops := int64(0), 0
	for at < tree.Size() {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		next, err := tree.Walk(ctx, at, tree.Size(), all, func(i int64, _ *Leaf, _ []byte) bool {
			got = append(got, i)
			if n++; n == 100 {
				cancel()
			}
			return n < 120
		})
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) || next <= at {
			t.Fatalf("%d after %d: %v", next, at, err)
		}
		at, stops = next, stops+1
	}
	for i := range got {
		if got[i] != int64(i) {
			t.Fatalf("leaf %d is %d", i, got[i])
		}
	}
	if int64(len(got)) != tree.Size() || stops < 7 {
		t.Errorf("%d leaves of %d, %d stops", len(got), tree.Size(), stops)
	}
}
