package upkeep

import (
	"fmt"
	"maps"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
)

// What the log says of partitions that compaction has written again, for both kinds of verifying.

// rewriting is a leaf that says so.
type rewriting struct {
	index int64
	*seal.Leaf
}

// rewritings has them as the log goes on, and what the leaves of batches say of each partition.
type rewritings struct {
	made map[string][]*rewriting // by partition that was made: the newest last
	of   map[string][]*rewriting // by partition that was written again
	sums map[string]*partSum
	// unsealed is the last batch from before the log, of which there are no leaves.
	unsealed uint64
}

// partSum adds up the leaves of a partition's batches.
type partSum struct {
	groups, events, records uint64
	hosts                   map[string]seal.HostCount
	partly                  bool   // some leaves do not name all of their hosts
	unsure                  bool   // there is more, or less: batches of a state that is gone, or leaves that cannot be read
	last                    uint64 // the last batch
}

func newRewritings() *rewritings {
	return &rewritings{made: map[string][]*rewriting{}, of: map[string][]*rewriting{}, sums: map[string]*partSum{}}
}

// add takes a leaf in; those of a log come in order.
func (r *rewritings) add(index int64, l *seal.Leaf) {
	switch l.Kind {
	case seal.Batch:
		if l.Flags&seal.Elsewhere == 0 {
			r.batch(l)
		}
	case seal.Begun:
		if l.Groups == 0 {
			r.unsealed = l.Batch
		}
	case seal.Rewound:
		for _, s := range r.sums {
			s.unsure = s.unsure || s.last > l.First
		}
	case seal.Rewritten:
		w := &rewriting{index, l}
		for i := range l.Made {
			r.made[l.Made[i].Part] = append(r.made[l.Made[i].Part], w)
		}
		for i := range l.Sources {
			r.of[l.Sources[i].Part] = append(r.of[l.Sources[i].Part], w)
		}
	}
}

// unread notes that the text of a leaf is lost: nobody knows of which partition it was.
func (r *rewritings) unread() {
	for _, s := range r.sums {
		s.unsure = true
	}
}

func (r *rewritings) batch(l *seal.Leaf) {
	s := r.sums[l.Part]
	if s == nil {
		s = &partSum{hosts: map[string]seal.HostCount{}}
		r.sums[l.Part] = s
	}
	s.groups, s.events, s.records, s.last = s.groups+1, s.events+l.Events, s.records+l.Records, max(s.last, l.Batch)
	s.partly = s.partly || uint64(len(l.Hosts)) != l.AllHosts
	for _, h := range l.Hosts {
		was := s.hosts[h.Name]
		s.hosts[h.Name] = seal.HostCount{Name: h.Name, Events: was.Events + h.Events, Records: was.Records + h.Records}
	}
}

// madeOf returns the newest rewriting of a partition that is behind a leaf; nil where there is none.
func (r *rewritings) madeOf(part string, behind int64) *rewriting {
	if list := r.of[part]; len(list) > 0 && list[len(list)-1].index > behind {
		return list[len(list)-1]
	}
	return nil
}

// maker returns the rewriting that made a partition: the newest, before a leaf; nil where there is none.
func (r *rewritings) maker(part string, before int64) *rewriting {
	list := r.made[part]
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].index < before {
			return list[i]
		}
	}
	return nil
}

// madePart returns what the leaf says of a partition that it made.
func (w *rewriting) madePart(part string) *seal.Made {
	return &w.Made[slices.IndexFunc(w.Made, func(m seal.Made) bool { return m.Part == part })]
}

// finals returns the partitions that have the events of one that was written again, and of those that were made of it and
// written again themselves; there reports whether a partition is there.
func (r *rewritings) finals(w *rewriting, there func(string) bool) []string {
	seen := map[string]bool{}
	var walk func(w *rewriting)
	walk = func(w *rewriting) {
		for i := range w.Made {
			part := w.Made[i].Part
			if seen[part] {
				continue
			}
			if next := r.madeOf(part, w.index); next != nil && !there(part) {
				walk(next)
				continue
			}
			seen[part] = true
		}
	}
	walk(w)
	return slices.Sorted(maps.Keys(seen))
}

// chain returns a rewriting, and those that wrote again what it made; there reports whether a partition is there.
func (r *rewritings) chain(w *rewriting, there func(string) bool) []*rewriting {
	list := []*rewriting{w}
	for i := 0; i < len(list); i++ {
		for _, m := range list[i].Made {
			if next := r.madeOf(m.Part, list[i].index); next != nil && !there(m.Part) && !slices.Contains(list, next) {
				list = append(list, next)
			}
		}
	}
	return list
}

// origins returns the partitions of receipt whose events a rewriting has, of first or of later hand.
func (r *rewritings) origins(w *rewriting) []string {
	found, seen := map[string]bool{}, map[*rewriting]bool{}
	var walk func(w *rewriting)
	walk = func(w *rewriting) {
		if seen[w] {
			return
		}
		seen[w] = true
		for i := range w.Sources {
			if by := r.maker(w.Sources[i].Part, w.index); by != nil {
				walk(by)
			} else {
				found[w.Sources[i].Part] = true
			}
		}
	}
	walk(w)
	return slices.Sorted(maps.Keys(found))
}

// wrongSums says what of a rewriting does not add up by the leaves alone: events that were left out on the way, or put in. lacked is what its sources did not have any
// more of what was stored: they may have been damaged.
func (r *rewritings) wrongSums(w *rewriting) (wrong, lacked []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	hosts := map[string]seal.HostCount{} // as they must be
	exact, partly := true, false         // and no more; or less
	var events, records uint64
	for i := range w.Sources {
		s := &w.Sources[i]
		events, records = events+s.Events, records+s.Records
		if by := r.maker(s.Part, w.index); by != nil {
			m := by.madePart(s.Part)
			e, n := m.Counts()
			if e != s.Events || n != s.Records || uint64(len(m.Groups)) != s.Groups {
				say("of partition %s it had %d groups, %d events and %d records, and that was made with %d, %d and %d", s.Part, s.Groups, s.Events, s.Records, len(m.Groups), e, n)
			}
			addHosts(hosts, m.Hosts)
			continue
		}
		sum := r.sums[s.Part]
		if sum == nil || sum.unsure || s.First <= r.unsealed {
			exact = false
			if sum == nil && s.First > r.unsealed && s.Events > 0 {
				say("the log has no batch of partition %s, of which it had %d events", s.Part, s.Events)
			}
			continue
		}
		switch {
		case s.Groups < sum.groups && s.Events < sum.events && s.Records < sum.records:
			exact, partly = false, true
			lacked = append(lacked, fmt.Sprintf("of partition %s it had %d batches, %d events and %d records, and %d, %d and %d were stored", s.Part, s.Groups, s.Events, s.Records, sum.groups, sum.events, sum.records))
		case sum.groups != s.Groups || sum.events != s.Events || sum.records != s.Records:
			say("of partition %s it had %d batches, %d events and %d records, and %d, %d and %d were stored", s.Part, s.Groups, s.Events, s.Records, sum.groups, sum.events, sum.records)
		}
		exact = exact && !sum.partly
		addHosts(hosts, slices.Collect(maps.Values(sum.hosts)))
	}
	is := map[string]seal.HostCount{}
	var madeEvents, madeRecords uint64
	for i := range w.Made {
		e, n := w.Made[i].Counts()
		madeEvents, madeRecords = madeEvents+e, madeRecords+n
		addHosts(is, w.Made[i].Hosts)
	}
	if madeEvents != events || madeRecords != records {
		say("%d events and %d records were written of %d and %d", madeEvents, madeRecords, events, records)
	}
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		if want, got := hosts[name], is[name]; !partly && (got.Events < want.Events || got.Records < want.Records) || exact && got != want {
			say("of host %.80q %d events and %d records were written, and %d and %d were stored", name, got.Events, got.Records, want.Events, want.Records)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if _, ok := hosts[name]; exact && !ok {
			say("of host %.80q %d events were written, and none were stored", name, is[name].Events)
		}
	}
	if more := len(wrong) - mostHosts; more > 0 {
		wrong = append(wrong[:mostHosts], fmt.Sprintf("and %d more", more))
	}
	return wrong, lacked
}

func addHosts(to map[string]seal.HostCount, list []seal.HostCount) {
	for _, h := range list {
		was := to[h.Name]
		to[h.Name] = seal.HostCount{Name: h.Name, Events: was.Events + h.Events, Records: was.Records + h.Records}
	}
}

// words says what was written again.
func (w *rewriting) words() string {
	text := fmt.Sprintf("partition %s", w.Sources[0].Part)
	if n := len(w.Sources); n > 1 {
		text = fmt.Sprintf("%s and %d others", text, n-1)
	}
	return fmt.Sprintf("%s, written again on %s", text, when(w.At))
}
