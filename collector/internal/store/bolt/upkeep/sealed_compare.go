package upkeep

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
)

// roots says whether the log is the one that the checkpoint was signed of.
func (s *sealed) roots() {
	c := &s.rep.Checkpoint
	n := s.root.Size()
	for _, i := range s.edited {
		if i < c.Size {
			s.changed("leaf %d of the log is not what its hash was made of: %s", i, s.entries[i].words())
		}
	}
	switch {
	case n < c.Size:
		s.changed("the log has %d leaves, and the checkpoint, of %s, has %d: an older store was put back, or the log's end was cut away; the last batch here is %d", n, when(c.Time.UnixMilli()), c.Size, s.lastID)
	case !s.atRoot:
		s.changed("the first %d leaves of the log are not those that were signed on %s: the log was changed, and its hashes made anew", c.Size, when(c.Time.UnixMilli()))
	default:
		s.later()
		return
	}
	// Where: behind the last checkpoint that still holds, before the first that does not.
	good, bad := int64(0), int64(-1)
	goodAt := ""
	for _, k := range s.kept {
		if k.holds && bad < 0 && k.Size > 0 {
			good, goodAt = k.Size, when(k.Time.UnixMilli())
		} else if k.seen && !k.holds && bad < 0 {
			bad = k.Size
		}
	}
	if goodAt != "" {
		s.notef("the first %d leaves are as they were signed on %s", good, goodAt)
	}
	if bad > good {
		s.notef("the first change lies in leaves %d to %d: %s to %s", good, bad-1, s.entries[good].words(), s.entries[bad-1].words())
	}
}

// later looks at the checkpoints that the log keeps and that are newer than the one given. One that does not
// hold any more says as much as the one given would. Those of an epoch that is over need not hold.
func (s *sealed) later() {
	n, epoch := s.root.Size(), s.rep.Checkpoint.Epoch
	for _, k := range s.kept {
		if k.holds {
			epoch = max(epoch, k.Epoch)
		}
	}
	for _, k := range s.kept {
		if k.holds || k.Epoch < epoch || k.Size <= s.rep.Checkpoint.Size {
			continue
		}
		if k.Size > n {
			s.changed("the log has %d leaves, and had %d when it was signed on %s, which it keeps: an older store was put back, or the log's end was cut away", n, k.Size, when(k.Time.UnixMilli()))
		} else {
			s.changed("leaves %d to %d of the log, behind those of the checkpoint, are not those that were signed on %s, which it keeps", s.rep.Checkpoint.Size, k.Size-1, when(k.Time.UnixMilli()))
		}
		return // those behind it can't hold either
	}
}

// signed reports whether a leaf is one that somebody with the key has signed: by the checkpoint that is
// given, or by a later one that the log keeps.
func (s *sealed) signed(index int64) bool { return index < s.signedTo }

// reach finds out how far the log is signed. What lies behind that may be anybody's word.
func (s *sealed) reach() {
	if s.atRoot {
		s.signedTo = s.rep.Checkpoint.Size
	}
	for _, k := range s.kept {
		if k.holds {
			s.signedTo = max(s.signedTo, k.Size)
		}
	}
}

// compare compares the log with what the partitions have.
func (s *sealed) compare() {
	s.reach()
	s.states()
	s.missing()
	s.rewritten()
	s.inserted()
	s.counts()
	s.held()
	s.appended()
}

// states goes through the log for what happened to the store. That a break was accepted, or a partition dropped,
// counts once it is signed: whoever can write the files can write such leaves.
func (s *sealed) states() {
	accepted := int64(-1)
	for i := range s.entries {
		if s.entries[i].kind == seal.Accepted && s.signed(int64(i)) {
			accepted = int64(i)
		}
	}
	for i := range s.entries {
		e := &s.entries[i]
		switch e.kind {
		case seal.Batch:
			s.batches[e.batch] = i
		case seal.Dropped:
			of := e.part
			if strings.HasPrefix(e.why, seal.ClusterWord) { // beside what the collector says itself
				of += " by the cluster"
			}
			if s.signed(e.index) {
				s.dropped[of] = e
			} else {
				s.saidDropped[of] = e
			}
		case seal.Rewound:
			for j := range s.entries[:i] {
				if b := &s.entries[j]; b.kind == seal.Batch && b.batch > e.first {
					b.gone = true
					delete(s.batches, b.batch)
				}
			}
			say := s.notef
			if int64(i) > accepted {
				say = s.changed
			}
			say("on %s the store was found behind its log: batches %d to %d, which the log has, are of a state that is gone: %s", when(e.at), e.first+1, e.batch, e.why)
		case seal.Accepted:
			if s.signed(e.index) {
				s.notef("on %s a break of the log was accepted: %s", when(e.at), e.why)
			} else {
				s.notef("on %s, says the log, and no checkpoint has signed that, a break of it was accepted: %s", when(e.at), e.why)
			}
		case seal.Account:
			if s.signed(e.index) {
				s.accounts[e.part] = e
			}
		case seal.Holds:
			s.holds = append(s.holds, e)
		case seal.Begun:
			if e.why != "" {
				s.notef("the log was begun on %s: %s", when(e.at), e.why)
			}
			if e.groups == 0 && e.batch > 0 {
				s.notef("batches up to %d were stored before, and are not sealed", e.batch)
			}
		}
	}
}

// missing looks for each batch of the log in the partitions. Of a partition that is gone as a whole it
// says so once.
func (s *sealed) missing() {
	lost := map[string][]*entry{}
	for i := range s.entries {
		e := &s.entries[i]
		if e.kind != seal.Batch || e.gone || e.flags&seal.Elsewhere != 0 || s.used && int64(i) >= s.settled {
			continue
		}
		x, ok := s.found[e.batch]
		switch {
		case !ok && s.dropped[e.part] != nil && s.dropped[e.part].index > e.index:
		case !ok && !s.parts[e.part] && s.again.madeOf(e.part, e.index) != nil: // see rewritten
		case !ok:
			lost[e.part] = append(lost[e.part], e)
		case x.err != nil:
			s.changed("partition %s, batch %d: it cannot be read: %v; %s, of hosts %s", e.part, e.batch, x.err, span(e.minMs, e.maxMs), e.hosts)
		case !x.sum.Is(e.hash, e.pieces):
			s.changed("partition %s, batch %d: it was written again after it was stored on %s: %d events, %s, of hosts %s", x.part, e.batch, when(e.at), e.events, span(e.minMs, e.maxMs), e.hosts)
		case x.forged:
			s.changed("partition %s, batch %d: the log's root of its events is not theirs: evidence made by it would prove what was never stored; %d events, %s, of hosts %s", x.part, e.batch, e.events, span(e.minMs, e.maxMs), e.hosts)
		case x.part != e.part:
			s.changed("partition %s, batch %d: it was stored in partition %s", x.part, e.batch, e.part)
		case x.hidden != "":
			s.changed("partition %s, batch %d: its events are as they were stored, and %s: %d events, %s, of hosts %s", x.part, e.batch, x.hidden, e.events, span(e.minMs, e.maxMs), e.hosts)
		default:
			s.rep.Groups++
			s.rep.Events += e.events
		}
	}
	for _, part := range slices.Sorted(maps.Keys(lost)) {
		s.lost(part, lost[part])
	}
	s.drops()
}

// lost says that batches of a partition are not there.
func (s *sealed) lost(part string, list []*entry) {
	events, from, to := uint64(0), list[0].minMs, list[0].maxMs
	hosts := map[string]bool{}
	for _, e := range list {
		events += e.events
		from, to = min(from, e.minMs), max(to, e.maxMs)
		for _, h := range strings.Split(e.hosts, ", ") {
			hosts[h] = true
		}
	}
	names := slices.Sorted(maps.Keys(hosts))
	if len(names) > mostHosts {
		names = append(names[:mostHosts], "and others")
	}
	what := fmt.Sprintf("batch %d", list[0].batch)
	if len(list) > 1 {
		what = fmt.Sprintf("%d batches, %d to %d", len(list), list[0].batch, list[len(list)-1].batch)
	}
	held := fmt.Sprintf("%s with %d events, %s, of hosts %s", what, events, span(from, to), strings.Join(names, ", "))
	aside := ""
	for _, rel := range slices.Concat(s.files.Aside, s.files.Salvaged) {
		if strings.Contains(rel, part+".db.") {
			aside = "; " + rel + " was set aside as damaged and may have some of it"
		}
	}
	if d := s.saidDropped[part]; d != nil && d.index > list[len(list)-1].index {
		s.changed("partition %s: %s: gone, and no checkpoint has signed that it was dropped (on %s, says the log): it was cut away by hand, or a newer checkpoint says more%s", part, held, when(d.at), aside)
		return
	}
	if s.parts[part] {
		s.changed("partition %s: removed: %s%s", part, held, aside)
		return
	}
	s.changed("partition %s: cut away: its file is gone, and the log has no word of its being dropped: %s%s", part, held, aside)
}

// drops says which partitions the collector has dropped, as it has signed.
func (s *sealed) drops() {
	for _, of := range slices.Sorted(maps.Keys(s.dropped)) {
		e := s.dropped[of]
		part := e.part
		what := fmt.Sprintf("partition %s: %d batches, %d to %d, with %d events, %s", part, e.groups, e.first, e.last, e.events, span(e.minMs, e.maxMs))
		switch {
		case s.parts[part]:
			s.notef("partition %s: the log says that it was dropped on %s, and it is there: the collector was stopped in between, or it came back from a copy", part, when(e.at))
		case e.groups > 0: // else nothing was in it
			s.notef("%s: dropped on %s: %s", what, when(e.at), e.why)
		}
	}
}

// inserted looks for groups and leaves that the log does not have.
func (s *sealed) inserted() {
	s.rep.Changed = append(s.rep.Changed, s.twice...)
	unsealed := uint64(0) // batches up to it may be there without a leaf
	if len(s.entries) > 0 && s.entries[0].kind == seal.Begun && s.entries[0].groups == 0 {
		unsealed = s.entries[0].batch
	}
	blind := false
	for i := range s.entries {
		blind = blind || s.entries[i].unread
	}
	older := 0
	for _, batch := range slices.Sorted(maps.Keys(s.found)) {
		if _, ok := s.batches[batch]; ok {
			continue
		}
		x := s.found[batch]
		if batch <= unsealed {
			older++
			continue
		}
		hint := ""
		if blind {
			hint = "; it may be that of a leaf whose text cannot be read"
		}
		s.changed("partition %s, batch %d: inserted: the log has no leaf of it: %d events, %s%s", x.part, batch, x.events, span(x.minMs, x.maxMs), hint)
	}
	if older > 0 {
		s.notef("%d groups are older than the log: of these nothing can be told", older)
	}
	for _, l := range s.leaves {
		i, ok := s.batches[l.batch]
		if !ok {
			s.changed("partition %s: a leaf of batch %d that the log has not", l.part, l.batch)
			continue
		}
		if p, err := seal.ParseLeaf(l.text); err != nil || p.Hash != s.entries[i].hash || p.Pieces != s.entries[i].pieces || p.Part != s.entries[i].part || p.Events != s.entries[i].events {
			s.changed("partition %s: its leaf of batch %d is another one than the log's", l.part, l.batch)
		}
	}
	if n, first := unread(s.entries); n > 0 {
		s.changed("%d leaves of the log cannot be read, the first is number %d: their hashes are there, their texts are gone or were taken away, so nobody can tell whether what they are about is still there", n, first)
	}
}

// unread counts the leaves whose text is gone.
func unread(list []entry) (n int, first int64) {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].unread {
			n, first = n+1, int64(i)
		}
	}
	return n, first
}

// appended says what came after the checkpoint, which is as it should be.
func (s *sealed) appended() {
	batches, events := 0, uint64(0)
	for i := range s.entries {
		if e := &s.entries[i]; e.index >= s.rep.Checkpoint.Size && e.kind == seal.Batch && !e.gone {
			batches, events = batches+1, events+e.events
		}
	}
	if batches > 0 {
		s.notef("stored after the checkpoint: %d batches with %d events", batches, events)
	}
}

// words says what a leaf is about.
func (e *entry) words() string {
	switch {
	case e.unread:
		return fmt.Sprintf("leaf %d, which cannot be read", e.index)
	case e.kind == seal.Batch:
		return fmt.Sprintf("partition %s, batch %d, stored on %s", e.part, e.batch, when(e.at))
	case e.kind == seal.Dropped:
		return fmt.Sprintf("partition %s, dropped on %s", e.part, when(e.at))
	case e.kind == seal.Rewritten:
		return fmt.Sprintf("batches %d to %d, written again on %s", e.first, e.last, when(e.at))
	}
	return fmt.Sprintf("%s, of %s", e.kind, when(e.at))
}
