package upkeep

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/raw"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// What compaction has made, compared with the log. A leaf that says so counts as the checkpoint does that is given, where that has it; where it is newer, by its own
// signature: a checkpoint that came later would say no more than that the leaf was there by then.

// foundMade is a partition that compaction has made, as it was read.
type foundMade struct {
	file    layout.PartFile
	mark    *layout.Compacted
	groups  map[uint64]*found // by their numbers
	batches map[uint64]uint64
	hosts   map[string]seal.HostCount
	broken  bool // not all of it could be read
}

// madePartition reads the groups of a partition that compaction has made.
func (s *sealed) madePartition(ctx context.Context, f layout.PartFile, p *raw.Partition) error {
	m := &foundMade{file: f, mark: p.Compacted, groups: map[uint64]*found{}, batches: map[uint64]uint64{}, hosts: map[string]seal.HostCount{}}
	s.made[f.Part.String()] = m
	s.lastID = max(s.lastID, p.Compacted.Last)
	for i := range p.Groups {
		g := &p.Groups[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		x := found{part: f.Part.String(), events: g.Sum.Events, minMs: g.Sum.MinMs, maxMs: g.Sum.MaxMs}
		b, err := p.Bytes(g)
		if err == nil && b == nil {
			err = errors.New("its bytes are not to be found")
		}
		if err == nil {
			x.sum = s.codec.Sum(b, false, true)
			x.hidden = s.hides(g, b)
			err = m.count(s.codec, g, b)
		}
		x.err = err
		m.broken = m.broken || err != nil
		m.groups[g.ID] = &x
	}
	return nil
}

// count adds up what a group says of its batches and hosts.
func (m *foundMade) count(c *group.Codec, g *raw.Group, b []byte) error {
	x, err := c.Open(b)
	if err != nil {
		return err
	}
	if err := x.CountBatches(g.ID, m.batches); err != nil {
		return err
	}
	return x.Counts(func(name string, events, records uint64) {
		addHosts(m.hosts, []seal.HostCount{{Name: name, Events: events, Records: records}})
	})
}

// rewritten compares what compaction has made, and the batches of what it was made of, with the log.
func (s *sealed) rewritten() {
	for _, part := range slices.Sorted(maps.Keys(s.made)) {
		s.madeBy(part)
	}
	batches := map[string][]*entry{} // by partition that was written again
	for i := range s.entries {
		e := &s.entries[i]
		if e.kind != seal.Batch || e.gone || e.flags&seal.Elsewhere != 0 || s.used && int64(i) >= s.settled || s.parts[e.part] {
			continue
		}
		if d := s.dropped[e.part]; s.again.madeOf(e.part, e.index) != nil && (d == nil || d.index < e.index) {
			batches[e.part] = append(batches[e.part], e)
		}
	}
	said, judged := map[string]bool{}, map[*rewriting]bool{}
	judge := func(w *rewriting) {
		if !judged[w] {
			judged[w] = true
			s.leafRewritten(w)
		}
	}
	for _, part := range slices.Sorted(maps.Keys(s.made)) {
		if w := s.again.maker(part, math.MaxInt64); w != nil {
			judge(w)
		}
	}
	for _, part := range slices.Sorted(maps.Keys(batches)) {
		s.partRewritten(part, batches[part], said)
		for _, w := range s.again.chain(s.again.madeOf(part, batches[part][0].index), func(p string) bool { return s.parts[p] }) {
			judge(w)
		}
	}
}

// believed reports whether a leaf is as good as the checkpoint that is given, or the key's own word.
func (s *sealed) believed(w *rewriting) bool {
	return w.index < s.rep.Checkpoint.Size && s.signed(w.index) || w.VouchedBy(s.o.Keys)
}

// madeBy compares a partition that compaction has made with the leaf that says so.
func (s *sealed) madeBy(part string) {
	m := s.made[part]
	w := s.again.maker(part, math.MaxInt64)
	switch {
	case w == nil && m.mark.Last <= s.again.unsealed:
		s.notef("partition %s was made by compaction of what is older than the log: of it nothing can be told", part)
		return
	case w == nil:
		events := uint64(0)
		for _, x := range m.groups {
			events += x.events
		}
		s.changed("partition %s: inserted: the log has no word of its being made by compaction: %d events of batches %d to %d", part, events, m.mark.First, m.mark.Last)
		return
	}
	is := w.madePart(part)
	for _, id := range slices.Sorted(maps.Keys(m.groups)) {
		if id < 1 || id > uint64(len(is.Groups)) {
			s.changed("partition %s, group %d: inserted: compaction made it with %d groups on %s: %d events, %s", part, id, len(is.Groups), when(w.At), m.groups[id].events, span(m.groups[id].minMs, m.groups[id].maxMs))
		}
	}
	for i := range is.Groups {
		x, g := m.groups[uint64(i+1)], &is.Groups[i]
		what := fmt.Sprintf("partition %s, group %d", part, i+1)
		if x == nil {
			m.broken = true
			s.changed("%s: removed: %d events of batches %d to %d, %s", what, g.Events, g.First, g.Last, span(g.MinMs, g.MaxMs))
			continue
		}
		switch {
		case x.err != nil:
			s.changed("%s: it cannot be read: %v; %s", what, x.err, span(g.MinMs, g.MaxMs))
		case !x.sum.Is(g.Hash, g.Pieces):
			s.changed("%s: it was written again after compaction made it on %s: %d events, %s", what, when(w.At), g.Events, span(g.MinMs, g.MaxMs))
		case x.hidden != "":
			s.changed("%s: its events are as compaction made them, and %s: %d events, %s", what, x.hidden, g.Events, span(g.MinMs, g.MaxMs))
		case x.events != g.Events || x.minMs != g.MinMs || x.maxMs != g.MaxMs:
			s.changed("%s: the leaf that made it says %d events, %s, and it has %d, %s", what, g.Events, span(g.MinMs, g.MaxMs), x.events, span(x.minMs, x.maxMs))
		}
	}
	for _, h := range is.Hosts {
		if got := m.hosts[h.Name]; !m.broken && got.Events != h.Events {
			s.changed("partition %s: of host %.80q it has %d events, and the leaf that made it says %d", part, h.Name, got.Events, h.Events)
		}
	}
	if len(m.hosts) > len(is.Hosts) && !m.broken {
		s.changed("partition %s: it has events of %d hosts, and the leaf that made it says %d", part, len(m.hosts), len(is.Hosts))
	}
}

// partRewritten compares the batches of a partition that was written again with what there is of them. said has what was said already of partitions that are gone.
func (s *sealed) partRewritten(part string, list []*entry, said map[string]bool) {
	w := s.again.madeOf(part, list[0].index)
	there := func(part string) bool { return s.parts[part] }
	lacks := false
	var by []*foundMade
	for _, final := range s.again.finals(w, there) {
		made := s.again.maker(final, math.MaxInt64)
		switch m := s.made[final]; {
		case m != nil:
			by, lacks = append(by, m), lacks || m.broken
		case there(final): // it cannot be read, or is none that compaction has made
			lacks = true
		case s.dropped[final] != nil && s.dropped[final].index > made.index:
			lacks = true
		default:
			lacks = true
			if !said[final] {
				said[final] = true
				s.madeGone(final, made)
			}
		}
	}
	if late := list[len(list)-1]; late.index > w.index {
		s.changed("partition %s, batch %d: it came after the partition was written again on %s", part, late.batch, when(w.At))
	}
	wrong := 0
	for _, e := range list {
		n := uint64(0)
		for _, m := range by {
			n += m.batches[e.batch]
		}
		if n == e.events || lacks && n < e.events {
			s.rep.Groups++
			s.rep.Events += n
			continue
		}
		if wrong++; wrong <= mostHosts {
			s.changed("partition %s, batch %d: it was written again on %s, and %d of its events are there, %d were stored: %s, of hosts %s", part, e.batch, when(w.At), n, e.events, span(e.minMs, e.maxMs), e.hosts)
		}
	}
	if wrong > mostHosts {
		s.changed("partition %s: so with %d more of its batches", part, wrong-mostHosts)
	}
}

// leafRewritten judges a leaf by itself: whether it adds up, and whose word it is.
func (s *sealed) leafRewritten(w *rewriting) {
	switch {
	case w.Flags&seal.Found != 0:
		say := s.notef
		if !s.believed(w) {
			say = s.changed
		}
		say("on %s partition %s was sealed as it was found: the log had no word of how it was made", when(w.At), w.Made[0].Part)
	case !s.believed(w):
		s.unbelieved = append(s.unbelieved, w)
	}
	if w.Flags&seal.Found != 0 {
		return
	}
	wrong, lacked := s.again.wrongSums(w)
	for _, x := range slices.Concat(wrong, lacked) {
		s.changed("%s: %s", w.words(), x)
	}
}

// madeGone says that a partition that compaction made is not there.
func (s *sealed) madeGone(part string, w *rewriting) {
	m := w.madePart(part)
	events, _ := m.Counts()
	first, last, minMs, maxMs := m.Span()
	var names []string
	for i, h := range m.Hosts {
		if i == mostHosts {
			names = append(names, fmt.Sprintf("and %d more", len(m.Hosts)-i))
			break
		}
		names = append(names, fmt.Sprintf("%.80q", h.Name))
	}
	held := fmt.Sprintf("%d events of batches %d to %d, %s, of hosts %s", events, first, last, span(minMs, maxMs), strings.Join(names, ", "))
	for _, rel := range slices.Concat(s.files.Aside, s.files.Salvaged) {
		if strings.Contains(rel, part+".db.") {
			held += "; " + rel + " was set aside as damaged and may have some of it"
		}
	}
	if d := s.saidDropped[part]; d != nil && d.index > w.index {
		s.changed("partition %s: %s: gone, and no checkpoint has signed that it was dropped (on %s, says the log): it was cut away by hand, or a newer checkpoint says more", part, held, when(d.at))
		return
	}
	s.changed("partition %s: cut away: its file is gone, and the log has no word of its being dropped: %s", part, held)
}
