package kernel

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// gapModel does what serials does, one serial at a time and with no bound on
// memory. Its serials do not wrap; those of the real one are their low 32 bits.
type gapModel struct {
	begun             bool
	floor, head, mark int64
	behind            int
	decided           map[int64]bool
	missing           []int64
}

func (m *gapModel) start(s int64) {
	m.begun, m.head, m.mark, m.floor, m.behind, m.decided = true, s, s, s, 0, map[int64]bool{}
	for ; m.floor%64 != 0; m.floor-- {
		m.decided[m.floor-1] = true
	}
	m.decided[s] = true
}

func (m *gapModel) decide(s int64) {
	if !m.decided[s] {
		m.missing = append(m.missing, s)
	}
	m.decided[s] = true
}

func (m *gapModel) note(s int64) {
	switch {
	case !m.begun:
		m.start(s)
		return
	case s < m.floor:
		if m.behind++; m.behind == serialBehind {
			m.start(s)
		}
		return
	case s > m.head:
		if s-m.floor >= serialWindow {
			for ; m.floor <= s-serialWindow || m.floor%64 != 0; m.floor++ {
				m.decide(m.floor)
			}
		}
		m.head = s
	}
	m.behind = 0
	m.decided[s] = true
}

func (m *gapModel) settle(upto int64) {
	for s := m.floor; m.begun && s <= upto; s++ {
		m.decide(s)
	}
}

func (m *gapModel) look() {
	m.settle(m.mark)
	m.mark = m.head
}

// check compares the numbers, and the invariant that room beyond the head is clear.
func (m *gapModel) check(t *rapid.T, g *serials, sum SerialGaps) {
	want := SerialGaps{Count: uint64(len(m.missing))}
	if len(m.missing) > 0 {
		want.First, want.Last = uint32(m.missing[0]), uint32(m.missing[len(m.missing)-1])
	}
	sum.Since, sum.Before = time.Time{}, time.Time{}
	if diff := cmp.Diff(want, sum); diff != "" {
		t.Fatalf("gaps (-model +got):\n%s", diff)
	}
	if g.count() != want.Count {
		t.Fatalf("%d in all, want %d", g.count(), want.Count)
	}
	if !g.begun {
		return
	}
	for s := m.floor; s < m.floor+serialWindow; s++ {
		bit := g.seen[uint32(s)/64%serialWords]>>(uint32(s)%64)&1 == 1
		if bit != m.decided[s] || s > m.head && bit {
			t.Fatalf("serial %d (floor %d, head %d): bit is %v, the model's %v", s, m.floor, m.head, bit, m.decided[s])
		}
	}
}

// Whatever serials come, in whatever order, with looks in between: the same
// numbers as the model's.
func TestSerialsLikeTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var g serials
		var m gapModel
		now := time.Unix(1700000000, 0)
		g.begin(now)
		at := int64(1)<<40 + rapid.SampledFrom([]int64{1, 63, 64, 1 << 20, 1<<32 - 3, 1<<32 - serialWindow - 70}).Draw(t, "start")
		var sum SerialGaps
		note := func(s int64) {
			g.noteLocked(uint32(s), now)
			m.note(s)
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Second)
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1, 2: // a run in order, with a hole after it
				for range rapid.IntRange(1, 300).Draw(t, "run") {
					note(at)
					at++
				}
				at += rapid.Int64Range(0, 3).Draw(t, "hole")
			case 3, 4, 5: // a stretch in any order, with holes
				n := rapid.IntRange(2, 200).Draw(t, "stretch")
				all := make([]int64, n)
				for i := range all {
					all[i] = at + int64(i)
				}
				keep := rapid.Permutation(all).Draw(t, "order")
				for _, s := range keep[:rapid.IntRange(1, n).Draw(t, "kept")] {
					note(s)
				}
				at += int64(n)
			case 6: // far ahead
				at += rapid.Int64Range(serialWindow-200, 3*serialWindow).Draw(t, "ahead")
				note(at)
			case 7: // stragglers, at times so many that counting begins again
				back := at - rapid.Int64Range(1, 2*serialWindow).Draw(t, "back")
				for range rapid.SampledFrom([]int{1, 5, serialBehind - 1, serialBehind, serialBehind + 1}).Draw(t, "stragglers") {
					note(back)
				}
				at = max(at, m.head) + 1
				if m.head == back {
					at = back + 1
				}
			case 8:
				g.look(now, 0, false)
				m.look()
			case 9:
				g.look(now, 0, true) // records wait in the socket: nothing is settled
			}
			sum.Join(g.take())
		}
		g.end(now)
		m.settle(m.head)
		sum.Join(g.take())
		m.check(t, &g, sum)
	})
}

// What the numbers are for: records that come late by less than the window are not
// missing, and of those that never come each is counted once.
func TestSerialsCountHolesExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var g serials
		now := time.Unix(1700000000, 0)
		g.begin(now)
		first := rapid.Uint32().Draw(t, "first")
		n := rapid.IntRange(2, 3*serialWindow).Draw(t, "serials")
		// One byte per sixteen serials decides what becomes of them.
		holes, lateBy := map[int]bool{}, rapid.IntRange(0, serialWindow-130).Draw(t, "late by")
		pattern := rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "pattern")
		type arrival struct{ at, serial int }
		var order []arrival
		for i := range n {
			switch p := int(pattern[i/16%len(pattern)]); {
			case i == 0 || i == n-1: // the ends are there
				order = append(order, arrival{i, i})
			case p < 30 && i%(p+1) == 0:
				holes[i] = true
			case p < 90 && i%3 == 0:
				order = append(order, arrival{i + min(lateBy, i), i})
			default:
				order = append(order, arrival{i, i})
			}
		}
		slices.SortStableFunc(order, func(a, b arrival) int { return a.at - b.at })
		for _, a := range order {
			g.noteLocked(first+uint32(a.serial), now)
		}
		g.end(now)
		if got := g.take(); got.Count != uint64(len(holes)) || g.count() != got.Count {
			t.Fatalf("%d gaps of %d, %d in all", got.Count, len(holes), g.count())
		}
	})
}

// A quiet host's gap is told by the second look after it, with times around it;
// the times of later ones are later.
func TestSerialGapTimes(t *testing.T) {
	var g serials
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	g.begin(at(100))
	note := func(s uint32, sec int64) {
		g.note([]Record{{Text: fmt.Appendf(nil, "audit(%d.000:%d): x", sec, s)}}, at(sec))
	}
	note(7, 101)
	note(10, 102)
	g.look(at(110), 5*time.Second, false)
	if got := g.take(); got.Count != 0 {
		t.Errorf("at the first look: %+v", got)
	}
	note(12, 111)
	g.look(at(112), 5*time.Second, false) // asked for early
	if got := g.take(); got.Count != 0 {
		t.Errorf("at a look soon after it: %+v", got)
	}
	g.look(at(120), 5*time.Second, true)
	if got := g.take(); got.Count != 0 {
		t.Errorf("while records are held back: %+v", got)
	}
	g.look(at(130), 5*time.Second, false)
	if diff := cmp.Diff(SerialGaps{Count: 2, First: 8, Last: 9, Since: at(100), Before: at(110)}, g.take()); diff != "" {
		t.Error(diff)
	}
	note(9, 131) // too late: it stays counted
	g.look(at(140), 5*time.Second, false)
	if diff := cmp.Diff(SerialGaps{Count: 1, First: 11, Last: 11, Since: at(110), Before: at(130)}, g.take()); diff != "" {
		t.Error(diff)
	}
	g.look(at(20), 5*time.Second, false) // the clock went back
	if d := at(20).Sub(g.markAt); d != 0 {
		t.Errorf("a clock that went back stops the looks for %v", d)
	}
	if g.count() != 3 {
		t.Errorf("%d in all", g.count())
	}
}

// What is missing behind an earlier run, or after a time in which nothing came, was
// made at any time since then, not just when a higher serial came.
func TestSerialGapTimesReachBack(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	for name, last := range map[string]*LastSerial{"quiet": nil, "resumed": {Serial: 7, At: at(101)}} {
		var g serials
		begin := int64(100)
		if last != nil {
			begin = 5000
		}
		g.begin(at(begin))
		note := func(s uint32, sec int64) {
			g.note([]Record{{Text: fmt.Appendf(nil, "audit(%d.000:%d): x", sec, s)}}, at(sec))
		}
		if last == nil {
			note(7, 101)
		} else {
			g.resume(*last)
		}
		for sec := begin + 10; sec < 7200; sec += 10 {
			g.look(at(sec), 5*time.Second, false)
		}
		note(9, 7201)
		g.look(at(7210), 5*time.Second, false)
		g.look(at(7220), 5*time.Second, false)
		got := g.take()
		if got.Count != 1 || got.First != 8 || got.Last != 8 || !got.Before.Equal(at(7210)) {
			t.Errorf("%s: %+v, want serial 8", name, got)
		}
		if got.Since.After(at(110)) || got.Since.Before(at(100)) {
			t.Errorf("%s: missing since %d, want the time at which 7 was the highest", name, got.Since.Unix())
		}
		note(11, 7221)
		g.look(at(7230), 5*time.Second, false)
		g.look(at(7240), 5*time.Second, false)
		if diff := cmp.Diff(SerialGaps{Count: 1, First: 10, Last: 10, Since: at(7210), Before: at(7230)}, g.take()); diff != "" {
			t.Errorf("%s, later: %s", name, diff)
		}
	}
}

func TestSerialOf(t *testing.T) {
	for text, want := range map[string]int64{
		"audit(1700000000.003:17): x": 17, "audit(1.0:0):": 0, "audit(1700000000.003:4294967295): ": 1<<32 - 1, "audit(1:2)": 2,
		"": -1, "audit(": -1, "audit(1700000000.003:": -1, "audit(1700000000.003:17": -1, "audit(1700000000.003:): x": -1,
		"audit(1700000000.003:4294967296): ": -1, "audit(1.0:99999999999999999999): ": -1, "audit(1.0:-1): ": -1, "audit(x:1): ": -1,
		"Audit(1.0:1): ": -1, "audit(1.0:1 ): ": -1, "op=x": -1,
	} {
		got := int64(-1)
		if n, ok := SerialOf([]byte(text)); ok {
			got = int64(n)
		}
		if got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// Any texts in any order: no panic, and never more gaps than serials between the
// lowest and the highest.
func FuzzSerials(f *testing.F) {
	f.Add([]byte("audit(1.0:1): a\naudit(1.0:5): b\naudit(1.0:4294967295): c"), uint8(2))
	f.Add([]byte("audit(1.0:4294967290): a\naudit(1.0:3): b\n\naudit("), uint8(0))
	f.Add([]byte("audit(1.0:100000): a\naudit(1.0:2000000000): b\naudit(1.0:4100000000): c"), uint8(1))
	f.Add([]byte("audit(:0)\naudit(:2000000000)\naudit(:4000000000)"), uint8(2))
	f.Add([]byte("audit(:0)\naudit(:2000000000)\naudit(:4000000000)\naudit(:1700000000)\naudit(:3700000000)"), uint8(5))
	f.Fuzz(func(t *testing.T, text []byte, every uint8) {
		var g serials
		now := time.Unix(0, 0)
		g.begin(now)
		var advanced uint64 // by how much the head has gone up in all
		for i, line := range slices.Collect(bytesLines(text)) {
			was, begun := g.head, g.begun
			g.note([]Record{{Text: line}}, now)
			if d := int32(g.head - was); begun && d > 0 {
				advanced += uint64(d)
			}
			if every > 0 && i%int(every) == 0 {
				g.look(now, 0, false)
			}
		}
		g.end(now)
		if g.count() > advanced {
			t.Errorf("%d gaps, but serials went up by %d", g.count(), advanced)
		}
		if sum := g.take(); sum.Count != g.count() {
			t.Errorf("%d told of %d", sum.Count, g.count())
		}
	})
}

func bytesLines(text []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for start, i := 0, 0; i <= len(text); i++ {
			if i == len(text) || text[i] == '\n' {
				if !yield(text[start:i]) {
					return
				}
				start = i + 1
			}
		}
	}
}

// batches makes batches of events of three records, as they come.
func batches(n int) [][]Record {
	var all []Record
	for i := range n * batchSize {
		all = append(all, Record{Type: 1300, Text: fmt.Appendf(nil, "audit(1700000000.%03d:%d): arch=c000003e syscall=110", i%1000, 1000000+i/3)})
	}
	return slices.Collect(slices.Chunk(all, batchSize))
}

func TestSerialsAllocateNothing(t *testing.T) {
	var g serials
	now := time.Unix(0, 0)
	all := batches(100)
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		g.note(all[i%len(all)], now)
		if i++; i%100 == 0 {
			g.noteLocked(g.head+1000, now)
			g.look(now, 0, false)
			g.take()
		}
	}); n > 0 {
		t.Errorf("%v allocations a batch", n)
	}
}

// BenchmarkSerials is what one record costs.
func BenchmarkSerials(b *testing.B) {
	var g serials
	now := time.Unix(0, 0)
	all := batches(8)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += batchSize {
		at := i / batchSize % len(all)
		if at == 0 {
			g.begun = false
		}
		g.note(all[at], now)
	}
}
