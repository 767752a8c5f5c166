package bolt

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// What is to be rewritten. Once a day is over, all that came on it becomes one: each event goes into the file of its day and class. Before
// that, parts of the running day are merged in tiers, so that its groups never become many: the part that gets batches is ended when it has
// so many, and is rewritten as it is; and parts of a tier become one when there are tierParts of them, which is then of a higher
// tier. So an event is written again once when its part is ended, once for each time that its part becomes tierParts times as large, up to
// topTier, and once when the day is over: three times at most where batches have the 25 MB that a table takes.

const (
	// mostParts is how many parts compaction leaves a day with that is over, before they become fewer.
	mostParts = 4
	// tierParts is how many parts of a tier become one, and how much more text a tier's parts have than those of the tier below.
	tierParts = 8
	// topTier is how much text a part of the running day has that becomes part of no other before the day is over: no group gets larger.
	topTier = 1 << 30
)

// due are partitions of a day that are to become others.
type due struct {
	parts []*partition
	class string
	split bool       // by the days of their events and by classes: that was not done yet
	old   bool       // of an import
	ended *partition // the one of them that gets batches, and has to be ended first; nil: none does
}

// received returns the last day on which events of the partitions were received.
func (d *due) received() (day store.Day) {
	day = math.MinInt32
	for _, p := range d.parts {
		if p.compacted != nil {
			day = max(day, p.compacted.Received)
		} else {
			day = max(day, p.part.Day)
		}
	}
	return day
}

// dueNow returns what is to be rewritten, the oldest first.
func (s *Store) dueNow(c *store.Compaction) (list []due) {
	now := s.opts.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.opts.ReadOnly || s.elsewhere.Load() {
		return nil
	}
	written := importsWritten(s.parts, now)
	for rest := s.parts; len(rest) > 0; {
		day, n := rest[0].part.Day, 1
		for n < len(rest) && rest[n].part.Day == day {
			n++
		}
		of := rest[:n]
		rest = rest[n:]
		for _, p := range of {
			if p.ofImport() && !p.canWrite() && (written[p.imported].Add(c.ImportAfter).Before(now) || p.longAgo(c, now)) {
				list = append(list, due{parts: []*partition{p}, split: true, old: true})
			}
		}
		over := day.Time().AddDate(0, 0, 1).Add(c.After)
		switch {
		case c.Today || !now.Before(over):
			list = append(list, s.dueOver(of)...)
		case c.Groups > 0 && s.cur != nil && s.cur.part.Day == day:
			list = append(list, s.dueRunning(of, c.Groups)...)
		}
	}
	return list
}

// continued is for how many times Compaction.ImportAfter, behind the day on which it was begun, a part of an import stays one where the import
// is continued again and again: by the same command each hour, say, it is never over.
const continued = 4

// longAgo reports whether an import's part was begun so long ago that it is compacted though its import is continued.
func (p *partition) longAgo(c *store.Compaction, now time.Time) bool {
	return p.part.Day.Time().AddDate(0, 0, 1).Add(continued * c.ImportAfter).Before(now)
}

// importsWritten returns when each import was written last, by its name: it is taken back as a whole, as far as that can be.
// Store.mu is held.
func importsWritten(parts []*partition, now time.Time) map[string]time.Time {
	written := map[string]time.Time{}
	for _, p := range parts {
		if !p.ofImport() {
			continue
		}
		at := now
		if !p.canWrite() {
			at = p.brought
		}
		if at.After(written[p.imported]) {
			written[p.imported] = at
		}
	}
	return written
}

// merged reports whether compaction has made the partition of parts of its day while that ran: its events are not divided
// by days and classes yet.
func (p *partition) merged() bool { return p.compacted != nil && p.compacted.Class == store.Undivided }

// dueOver returns what is to be rewritten of the parts of a day that is over. s.mu is held.
func (s *Store) dueOver(parts []*partition) (list []due) {
	came := due{split: true}
	some := false
	made := map[string][]*partition{}
	var classes []string
	for _, p := range parts {
		switch {
		case p == s.cur, p.ofImport():
		case p.compacted == nil, p.merged():
			came.parts = append(came.parts, p)
			some = some || len(p.entries) > 0
		default:
			class := p.compacted.Class
			if made[class] == nil {
				classes = append(classes, class)
			}
			made[class] = append(made[class], p)
		}
	}
	if some {
		list = append(list, came)
	}
	for _, class := range classes {
		if parts := tooMany(made[class]); len(parts) > 0 {
			list = append(list, due{parts: parts, class: class})
		}
	}
	return list
}

// dueRunning returns what is to be merged of the parts of the day that runs: those that batches came to once they have so many groups, and
// those of a tier that are enough for the next. s.mu is held.
func (s *Store) dueRunning(parts []*partition, groups int) (list []due) {
	came := due{class: store.Undivided}
	waiting := 0 // groups
	var tiers [64][]*partition
	for _, p := range parts {
		switch {
		case p.ofImport():
		case p.compacted == nil && p != s.cur:
			came.parts = append(came.parts, p)
			waiting += len(p.entries)
		case p.merged() && p.text() < topTier:
			tier := tierOf(p.text(), s.opts.tierParts)
			tiers[tier] = append(tiers[tier], p)
		}
	}
	if cur := s.cur; waiting < groups && cur.compacted == nil && !cur.ofImport() && len(cur.entries) > 0 && waiting+len(cur.entries) >= groups {
		came.parts, came.ended = append(came.parts, cur), cur
		waiting += len(cur.entries)
	}
	if waiting >= groups {
		list = append(list, came)
	}
	for _, parts := range tiers {
		if len(parts) >= s.opts.tierParts {
			list = append(list, due{parts: parts, class: store.Undivided})
		}
	}
	return list
}

// tierOf returns the tier of a part with so many bytes of text.
func tierOf(text uint64, width int) (tier int) {
	for ; text >= uint64(width); text /= uint64(width) {
		tier++
	}
	return tier
}

// text returns how many bytes of records a partition has. Store.mu is held.
func (p *partition) text() (n uint64) {
	for i := range p.entries {
		n += p.entries[i].sum.RawBytes
	}
	return n
}

// tooMany returns the parts of a day that are to become one, when there are too many: all but a large one that the others
// together are little beside.
func tooMany(parts []*partition) []*partition {
	if len(parts) <= mostParts {
		return nil
	}
	parts = slices.Clone(parts)
	slices.SortStableFunc(parts, func(a, b *partition) int { return cmp.Compare(b.text(), a.text()) })
	rest := uint64(0)
	for _, p := range parts[1:] {
		rest += p.text()
	}
	if rest*4 < parts[0].text() {
		parts = parts[1:]
	}
	sortParts(parts)
	return parts
}

// Compactable returns how many partitions wait for compaction, and their bytes.
func (s *Store) Compactable(c store.Compaction) (parts int, bytes uint64) {
	for _, d := range s.dueNow(&c) {
		for _, p := range d.parts {
			parts++
			for i := range p.entries {
				bytes += p.entries[i].sum.Bytes
			}
		}
	}
	return parts, bytes
}
