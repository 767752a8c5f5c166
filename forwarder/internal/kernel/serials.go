package kernel

import (
	"math/bits"
	"sync"
	"time"
)

// SerialGaps are event serials with which no record came. They are informative and no
// count of lost records. The kernel assigns a serial when it
// makes an event's first record, after its filters and after it found room in its
// backlog: an event that the rules or the exclude and user filters suppress gets none,
// and neither does an event that found the backlog full. So a gap is an event that the
// kernel made and of which no record arrived (because of the rate limit, memory, or a
// socket or daemon that did not exist). A Loss counts it, if at all, in records and by
// cause. An event of which only some records are missing leaves no gap.
type SerialGaps struct {
	Count       uint64
	First, Last uint32 // the lowest and the highest missing serial
	// Since is a time at which none was missing yet, after the serials below them had
	// come; Before is a time at which higher serials had come.
	Since, Before time.Time
}

// LastSerial says where an earlier run in the same boot ended.
type LastSerial struct {
	Serial uint32     // the highest serial that was received
	At     time.Time  // when it was received
	Unsaid SerialGaps // gaps that earlier runs found and ended before they reported them
}

const (
	// serialWindow is how many serials a record may come late by. Each CPU queues
	// records in its own time; of 8,192 that the kernel held back for a daemon that
	// was away, the later may come first.
	serialWindow = 16384
	serialWords  = serialWindow / 64
	// serialBehind records in a row from before the window are no stragglers (the
	// last record of a system call that lasted hours): counting begins again there.
	serialBehind = 256
)

// serials remembers, with a bit each, which of the last serialWindow serials were seen. A
// serial counts as missing when it falls out of the window unseen, or when higher ones
// had been seen two looks ago.
type serials struct {
	mu     sync.Mutex // guards what follows
	begun  bool
	head   uint32 // the highest seen; all arithmetic is modulo 2^32
	floor  uint32 // a multiple of 64; what is below was decided
	behind int    // records in a row from below floor
	// seen has the bit of serial s at s%serialWindow, for s from floor to head. A
	// serial that was decided is set, too. All others are clear.
	seen [serialWords]uint64

	mark   uint32 // head at the last look, at markAt; never below floor-1
	markAt time.Time
	// markSince is the first look's that found mark, or of the earlier run's end. On a
	// quiet host that is long before: what is missing behind mark was made since then.
	markSince time.Time
	since     time.Time // markSince of the look before: of all that is not decided

	open, closed SerialGaps // found since the last look, and before it
	total        uint64
}

// begin starts the times at now; serials start with the first that is seen,
// unless resume comes after it.
func (g *serials) begin(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.markAt, g.markSince, g.since = now, now, now
}

// resume goes on where an earlier run ended: what comes after that serial and
// doesn't come here is missing.
func (g *serials) resume(last LastSerial) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.startLocked(last.Serial)
	g.markSince, g.since = last.At, last.At
	g.total += last.Unsaid.Count
	g.open.Join(last.Unsaid)
}

// note takes the serials of a batch.
func (g *serials) note(batch []Record, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range batch {
		if s, ok := SerialOf(batch[i].Text); ok {
			g.noteLocked(s, now)
		}
	}
}

func (g *serials) noteLocked(s uint32, now time.Time) {
	switch d := int32(s - g.head); {
	case !g.begun:
		g.startLocked(s)
		return
	case d == 0: // a further record of the same event
	case d > 0:
		if s-g.floor >= serialWindow {
			g.raiseLocked((s-serialWindow+64)&^63, now)
		}
		g.head = s
	case int32(s-g.floor) < 0:
		if g.behind++; g.behind >= serialBehind {
			g.startLocked(s)
		}
		return
	}
	g.behind = 0
	g.seen[s/64%serialWords] |= 1 << (s % 64)
}

// startLocked begins with serial s: none below it is missing.
func (g *serials) startLocked(s uint32) {
	clear(g.seen[:])
	g.begun, g.behind, g.head, g.mark, g.floor = true, 0, s, s, s&^63
	g.seen[s/64%serialWords] = 1<<(s%64) | (1<<(s%64) - 1)
}

// raiseLocked lets serials below to, a multiple of 64 above floor, fall out of the
// window.
func (g *serials) raiseLocked(to uint32, now time.Time) {
	if g.mark+1-g.floor < to-g.floor {
		g.mark = to - 1 // all up to it is decided; it must not be left so far behind that it looks ahead
	}
	words := min((to-g.floor)/64, serialWords)
	for range words {
		w := &g.seen[g.floor/64%serialWords]
		if ^*w != 0 {
			g.missLocked(g.floor, ^*w, now)
		}
		*w = 0
		g.floor += 64
	}
	if rest := to - g.floor; rest > 0 { // none of which was seen
		g.addLocked(uint64(rest), g.floor, to-1, now)
		g.floor = to
	}
}

// missLocked books the serials that are set in missing, counted from a multiple of
// 64.
func (g *serials) missLocked(from uint32, missing uint64, now time.Time) {
	g.addLocked(uint64(bits.OnesCount64(missing)), from+uint32(bits.TrailingZeros64(missing)), from+63-uint32(bits.LeadingZeros64(missing)), now)
}

func (g *serials) addLocked(n uint64, first, last uint32, now time.Time) {
	g.total += n
	g.open.Join(SerialGaps{Count: n, First: first, Last: last, Since: g.since, Before: now})
}

// Join adds later gaps.
func (s *SerialGaps) Join(later SerialGaps) {
	if later.Count == 0 {
		return
	}
	if s.Count == 0 {
		*s = later
		return
	}
	s.Count += later.Count
	s.Last, s.Before = later.Last, later.Before
}

// look decides what was passed before the last look, so that a quiet host need not
// make a window full of events first. held says that records wait in the socket:
// they may be the missing ones.
func (g *serials) look(now time.Time, least time.Duration, held bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closeLocked()
	if d := now.Sub(g.markAt); held || d >= 0 && d < least {
		return
	}
	g.settleLocked(g.mark, g.markAt)
	g.since = g.markSince
	if g.head != g.mark {
		g.markSince = now
	}
	g.mark, g.markAt = g.head, now
	g.closeLocked()
}

// end decides about everything: nothing more will come.
func (g *serials) end(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.settleLocked(g.head, now)
	g.closeLocked()
}

func (g *serials) closeLocked() {
	g.closed.Join(g.open)
	g.open = SerialGaps{}
}

// settleLocked decides about serials up to upto, which was seen.
func (g *serials) settleLocked(upto uint32, now time.Time) {
	if !g.begun || int32(upto-g.floor) < 0 {
		return
	}
	for at := g.floor; ; at += 64 {
		w := &g.seen[at/64%serialWords]
		missing := ^*w
		if upto-at < 63 {
			missing &= 2<<(upto-at) - 1
		}
		if missing != 0 {
			g.missLocked(at, missing, now)
			*w |= missing
		}
		if upto-at < 64 {
			return
		}
	}
}

// take returns what was found until the last look, since the last call.
func (g *serials) take() SerialGaps {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := g.closed
	g.closed = SerialGaps{}
	return out
}

func (g *serials) count() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total
}

// SerialOf returns the serial in a text that begins "audit(SECONDS.MILLIS:SERIAL): "; false
// when the text does not begin so.
func SerialOf(text []byte) (uint32, bool) {
	const start = "audit("
	if len(text) < len(start) || string(text[:len(start)]) != start {
		return 0, false
	}
	i := len(start)
	if usual := i + 14; len(text) > usual && text[usual] == ':' && text[usual-4] == '.' {
		i = usual // seconds have ten digits until the year 2286
	}
	for i < len(text) && text[i] != ':' {
		if c := text[i]; c-'0' > 9 && c != '.' {
			return 0, false
		}
		i++
	}
	var n uint64
	digits := 0
	for i++; i < len(text) && digits <= 10; i++ {
		c := text[i]
		if c == ')' {
			return uint32(n), digits > 0 && n <= 1<<32-1
		}
		if c-'0' > 9 {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
		digits++
	}
	return 0, false
}
