package spool

import (
	"errors"
	"fmt"
	"io"
	"math/rand"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// powerLife is what was done to a spool until its power went.
type powerLife struct {
	fs     *faultfs.FS
	opt    Options
	lines  []string // taken, in order
	synced int      // of lines, how many Sync has confirmed
	acked  int      // of lines, how many were acknowledged
	noted  int      // of lines, how many acknowledgements were confirmed as durable
	marks  bool
}

func newPowerLife(seed int64, marks bool) *powerLife {
	p := &powerLife{fs: faultfs.New(seed), marks: marks}
	p.fs.KeepHistory()
	p.opt = Options{FS: p.fs, Dir: dir, SyncInterval: time.Hour, SegmentBytes: 16 << 10, MaxBytes: 64 << 20}
	return p
}

// run appends, sends (which is to acknowledge), syncs, and starts again, with appends
// that come while a sync is under way, until it is through or the power is gone.
func (p *powerLife) run() {
	for range 3 {
		s, _, err := Open(p.opt)
		if err != nil {
			return
		}
		s.noteEvery = 3
		for i := range 10 {
			p.append(s, 1+i%4)
			sent := len(p.lines)
			if p.marks { // what is synced, and lines are its only entries
				sent = int(s.log.Synced())
			}
			if p.acked = max(p.acked, min(p.acked+i%3, sent)); s.Ack(uint64(p.acked)) != nil {
				break
			}
			if i%3 == 2 {
				n := len(p.lines)
				if s.log.Sync() == nil {
					p.synced = n
				}
				p.append(s, 2) // before the state is written: it must not speak of these
				acked := p.acked
				if s.persist() == nil {
					p.noted = acked
				}
			}
		}
		if s.Close() == nil {
			p.synced, p.noted = len(p.lines), p.acked
		}
	}
}

func (p *powerLife) append(s *Spool, n int) {
	var batch [][]byte
	for range n {
		batch = append(batch, fmt.Appendf(nil, "record %d %0*d", len(p.lines)+len(batch), 1+len(p.lines)%700, 0))
	}
	var mark []byte
	if p.marks {
		mark = fmt.Append(nil, len(p.lines)+n)
	}
	if s.Append(mark, batch...) == nil {
		for _, b := range batch {
			p.lines = append(p.lines, string(b))
		}
	}
}

// check opens the spool on what is left of its disk.
func (p *powerLife) check(fs *faultfs.FS, fail func(string, ...any)) {
	o := p.opt
	o.FS = fs
	s, rec, err := Open(o)
	if err != nil {
		fail("cannot be opened: %v", err)
		return
	}
	defer func() { _ = s.Close() }() // only read
	if len(rec.Damaged) > 0 {
		fail("damage that nothing has caused: %v", rec)
	}
	first := int(s.First())
	if first-1 > p.acked || first-1 < p.noted {
		fail("goes on behind record %d, %d are acknowledged, %d of them on record", first-1, p.acked, p.noted)
	}
	there := map[int]bool{}
	r := s.Reader()
	defer r.Close()
	last := -1
	for {
		_, _, line, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			fail("read: %v", err)
			return
		}
		var n int
		if len(line) == 0 {
			continue // the spool's own, after a hole
		}
		if _, err := fmt.Sscanf(string(line), "record %d ", &n); err != nil || n <= last {
			fail("%.20q after record %d: %v", line, last, err)
			return
		}
		if n < len(p.lines) && p.lines[n] != string(line) {
			fail("record %d is %.40q", n, line)
		}
		last = n
		there[n] = true
	}
	for n := first - 1; n < p.synced; n++ {
		if !there[n] {
			fail("record %d is gone, %d were synced", n, p.synced)
		}
	}
	if c := s.Counts(); c != (Counts{}) {
		fail("counted as lost: %+v", c)
	}
	var mark int
	if b := s.Mark(); b != nil {
		_, _ = fmt.Sscan(string(b), &mark)
	}
	// What it reads from there on, but for the beginning of a batch that it knows to be there, must not be there.
	for n := mark + len(s.AfterMark()); p.marks && n < len(p.lines); n++ {
		if there[n] {
			fail("the source is to go on at %d, with %d that it passes over, and record %d is there", mark, len(s.AfterMark()), n)
		}
	}
	for n := first - 1; n < mark; n++ {
		if !there[n] && n >= p.acked {
			fail("the source is to go on at %d, but record %d is gone", mark, n)
		}
	}
}

// The power goes at each changing operation of a spool's life, and of what was not
// synced of segments and state file any part is there, in any version: what was synced
// and not acknowledged is read once, in order, and nothing is counted as lost or
// damaged, at this start or, when the power goes during it, at the next.
func TestEveryLossOfPower(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewSource(1))
	states, again, cuts := 0, 0, 0
	step := need.Size(powerStep, 5*powerStep)
	for i, marks := range []bool{false, true} {
		for n := 1 + i; ; n += step {
			p := newPowerLife(int64(n), marks)
			p.fs.CutPower(n)
			p.run()
			if p.fs.Changes() < n {
				break
			}
			for _, unit := range []int64{faultfs.Sector, faultfs.Page} {
				cuts++
				p.fs.EachLoss(unit, powerStates, rng, func(after *faultfs.FS) {
					where := fmt.Sprintf("marks %v, power cut at operation %d, units of %d, state %d: ", marks, n, unit, states)
					fail := func(format string, args ...any) { t.Fatalf(where+format, args...) }
					if states++; states%powerAgain == 0 {
						again += p.cutAgain(after, rng, fail)
					}
					p.check(after, fail)
				})
			}
		}
	}
	t.Logf("%d power cuts, %d states, and %d of a second power cut while the first was recovered from", cuts, states, again)
	if states < need.Size(4000, 800) || again < need.Size(1000, 200) {
		t.Errorf("only %d and %d states", states, again)
	}
}

// cutAgain has the power go at every operation of an Open.
func (p *powerLife) cutAgain(after *faultfs.FS, rng *rand.Rand, fail func(string, ...any)) (states int) {
	for n := 1; ; n++ {
		fs := after.Copy()
		fs.KeepHistory()
		before := fs.Changes()
		fs.CutPower(n)
		o := p.opt
		o.FS = fs
		s, _, err := Open(o)
		if err == nil {
			_ = s.Close()
		}
		if fs.Changes()-before < n {
			return states
		}
		visited, _ := fs.EachLoss(faultfs.Sector, 24, rng, func(twice *faultfs.FS) {
			p.check(twice, func(format string, args ...any) { fail(fmt.Sprintf("and operation %d of Open: ", n)+format, args...) })
		})
		states += visited
	}
}
