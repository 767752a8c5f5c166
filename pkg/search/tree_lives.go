package search

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// pidOf is a process id of a host.
type pidOf struct {
	node string
	pid  int64
}

// stamp is the time of an event.
type stamp struct {
	ms     int64
	serial uint64
}

func (s stamp) before(o stamp) bool { return s.compare(o) < 0 }

func (s stamp) compare(o stamp) int {
	return cmp.Or(cmp.Compare(s.ms, o.ms), cmp.Compare(s.serial, o.serial))
}

// sighting is what one event says about a process.
type sighting struct {
	query.Task
	stamp
	exits bool // it is the process's exit_group
}

// sightingBytes is about what a sighting takes beside its text.
const sightingBytes = 160

func (s *sighting) text() int { return len(s.UIDName) + len(s.AUIDName) + len(s.Comm) + len(s.Exe) }

// see reads an event; false when it does not say which process it is of.
func see(x *query.Extractor, ev *event.Event) (sighting, bool) {
	task, ok := x.Task(ev)
	return sighting{Task: task, stamp: stamp{ev.Ms, ev.Serial}, exits: ok && exits(ev)}, ok
}

// exits says whether an event is the end of its process. A thread that calls exit ends
// itself only.
func exits(ev *event.Event) bool {
	for i := range ev.Records {
		if ev.Records[i].Type != tables.Syscall {
			continue
		}
		arch, ok := fieldNumber(ev, i, "arch", 16)
		nr, ok2 := fieldNumber(ev, i, "syscall", 10)
		if !ok || !ok2 || nr > math.MaxInt32 {
			return false
		}
		name, _ := tables.SyscallName(uint32(arch), int(nr))
		return name == "exit_group"
	}
	return false
}

// life is a process: one of those that had a pid. A pid changes hands where its process
// ends (exit_group), where the machine is started again, and where its parent becomes
// another one; but a process whose parent ends is given to process 1 and stays who it is,
// as its login shows.
type life struct {
	seen     []sighting // by time; none where no event tells of it
	from, to stamp      // what names it as its parent is within
	boots    []stamp
}

// lives are those of one pid, by time.
type lives struct {
	list  []*life
	gaps  map[int]*life // of processes that no sighting tells of, by the life that comes next
	boots []stamp
}

var (
	always = stamp{math.MinInt64, 0}
	never  = stamp{math.MaxInt64, math.MaxUint64}
)

// newLives divides the sightings of a pid, which are in order. What is between two lives
// belongs to the one before, unless that has ended: a process usually does something
// before its children do.
func newLives(list []sighting, boots []stamp) *lives {
	ls := &lives{boots: boots}
	var l *life
	orphaned := false
	for i, s := range list {
		if i > 0 && l.goesOn(&list[i-1], &s, orphaned) {
			orphaned = orphaned || s.PPID == 1 && list[i-1].PPID != 1
			l.seen = append(l.seen, s)
			continue
		}
		next := &life{from: always, to: never, boots: boots}
		if l != nil {
			next.from = s.stamp
			if before := l.last(); before.exits {
				next.from, l.to = before.stamp, before.stamp
			} else {
				l.to = s.stamp
			}
		}
		l, orphaned = next, false
		l.seen = append(l.seen, s)
		ls.list = append(ls.list, l)
	}
	if l != nil && l.last().exits {
		l.to = l.last().stamp
	}
	return ls
}

func (l *life) last() *sighting { return &l.seen[len(l.seen)-1] }

// goesOn says whether b is of the same process as a, which was seen before it.
func (l *life) goesOn(a, b *sighting, orphaned bool) bool {
	switch {
	case a.exits || rebooted(l.boots, a.stamp, b.stamp):
		return false
	case a.PPID == b.PPID:
		return true
	}
	return b.PPID == 1 && !orphaned && a.AUID == b.AUID
}

// fewSerials is how many serials a machine may have used before it was started again
// without that showing in the serials.
const fewSerials = 1000

// rebooted says whether a host was started again between two events: there is a record
// of it, or their serials, which begin anew, fall. A record of a boot comes when some
// processes of that boot have been seen already; their serials are below its own.
func rebooted(boots []stamp, a, b stamp) bool {
	if b.serial < a.serial/2 && a.serial-b.serial > fewSerials {
		return true
	}
	i, _ := slices.BinarySearchFunc(boots, a, func(s, t stamp) int { return cmp.Compare(s.ms, t.ms) })
	for ; i < len(boots) && boots[i].ms <= b.ms; i++ {
		if boots[i] != b && boots[i] != a && boots[i].serial <= a.serial {
			return true
		}
	}
	return false
}

// has says whether the pid was this process at a time: a process that names it as its
// parent then is a child of it.
func (l *life) has(s stamp) bool {
	if s.before(l.from) || l.to.before(s) || s == l.to && len(l.seen) > 0 && !l.last().exits {
		return false
	}
	if len(l.seen) == 0 {
		return true
	}
	if s.before(l.seen[0].stamp) {
		return !rebooted(l.boots, s, l.seen[0].stamp)
	}
	return !rebooted(l.boots, l.seen[0].stamp, s)
}

// latest is what was last seen of it until at, or else first seen after it.
func (l *life) latest(at stamp) (out sighting, ok bool) {
	for _, s := range l.seen {
		if ok && at.before(s.stamp) {
			break
		}
		out, ok = s, true
	}
	return out, ok
}

// complete adds to what an event says of the process what others say, and tells when the
// process had the parent that it names.
func (l *life) complete(s sighting) (all sighting, asOf stamp) {
	known, ok := l.latest(s.stamp)
	if !ok || s.PPID >= 0 {
		return s, s.stamp
	}
	s.PPID = known.PPID
	if s.Exe == "" || s.Exe == known.Exe {
		s.Exe = known.Exe
		s.Comm = cmp.Or(s.Comm, known.Comm)
	}
	if s.UID < 0 {
		s.UID, s.UIDName = known.UID, known.UIDName
	}
	if s.AUID < 0 {
		s.AUID, s.AUIDName = known.AUID, known.AUIDName
	}
	return s, known.stamp
}

// at is the life in which the pid was at a time.
func (ls *lives) at(t stamp) *life {
	i := ls.index(t)
	if i < 0 {
		return ls.unknown(-i - 1)
	}
	return ls.list[i]
}

// of is the life that a sighting of the pid is of.
func (ls *lives) of(s *sighting) *life {
	i := ls.index(s.stamp)
	if i >= 0 && i+1 < len(ls.list) && s.PPID < 0 && s.Exe != "" && ls.list[i].last().before(s.stamp) &&
		ls.list[i].last().Exe != s.Exe && ls.list[i+1].seen[0].Exe == s.Exe && !rebooted(ls.boots, s.stamp, ls.list[i+1].seen[0].stamp) {
		return ls.list[i+1] // its program says that it has begun
	}
	if i < 0 {
		return ls.unknown(-i - 1)
	}
	return ls.list[i]
}

// index finds the life at a time: the last one that has begun, where it has not ended,
// or else the next one. It is negative, -1-i, for a process before the i-th life of which
// nothing is known.
func (ls *lives) index(t stamp) int {
	next, _ := slices.BinarySearchFunc(ls.list, t, func(l *life, t stamp) int {
		if t.before(l.seen[0].stamp) {
			return 1
		}
		return -1
	})
	if i := next - 1; i >= 0 {
		l := ls.list[i].last()
		if !(l.exits && l.before(t)) && !rebooted(ls.boots, ls.list[i].seen[0].stamp, t) {
			return i
		}
	}
	if next < len(ls.list) && !rebooted(ls.boots, t, ls.list[next].seen[0].stamp) {
		return next
	}
	return -1 - next
}

// unknown is a process of which no sighting tells, before the i-th life.
func (ls *lives) unknown(i int) *life {
	if l := ls.gaps[i]; l != nil {
		return l
	}
	l := &life{from: always, to: never, boots: ls.boots}
	if i > 0 {
		l.from = ls.list[i-1].last().stamp
	}
	if i < len(ls.list) {
		l.to = ls.list[i].seen[0].stamp
	}
	if ls.gaps == nil {
		ls.gaps = map[int]*life{}
	}
	ls.gaps[i] = l
	return l
}

// withHits adds events found that say their parent to the sightings, which may be too
// many to be all there.
func withHits(list, hits []sighting) []sighting {
	out := slices.Clone(list)
	for _, h := range hits {
		if h.PPID >= 0 {
			out = append(out, h)
		}
	}
	sortSightings(out)
	return slices.CompactFunc(out, func(a, b sighting) bool { return a.stamp == b.stamp })
}

func sortSightings(list []sighting) {
	slices.SortStableFunc(list, func(a, b sighting) int { return a.compare(b.stamp) })
}

// fieldNumber reads a field of an event's i-th record as a number.
func fieldNumber(ev *event.Event, i int, name string, base int) (uint64, bool) {
	f, ok := ev.Records[i].Get(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(string(f.Value), base, 64)
	return n, err == nil
}
