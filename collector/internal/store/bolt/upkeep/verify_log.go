package upkeep

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/raw"
)

// loggedGroup is what the log says of a batch's group.
type loggedGroup struct {
	part   string
	hash   [32]byte
	pieces uint64
	events uint64
	index  int64
}

// log verifies the log of what was stored: its files, what its own checkpoints say of it, and whether the groups are
// those that it has. Who may write the folder can make all of it fit again: against him a checkpoint from
// elsewhere helps, and Sealed.
func (v *verify) log() error {
	dir := filepath.Join(v.o.Dir, seal.Dir)
	groups := map[uint64]loggedGroup{}
	again := newRewritings()
	dropped := map[string]int64{}
	_, wrong, err := seal.Check(v.o.Dir, func(index int64, l *seal.Leaf) {
		again.add(index, l)
		switch l.Kind {
		case seal.Batch:
			if l.Flags&seal.Elsewhere == 0 {
				groups[l.Batch] = loggedGroup{l.Part, l.Hash, l.Pieces, l.Events, index}
			}
		case seal.Dropped:
			dropped[l.Part] = index
			maps.DeleteFunc(groups, func(_ uint64, g loggedGroup) bool { return g.part == l.Part })
		case seal.Rewound:
			maps.DeleteFunc(groups, func(batch uint64, _ loggedGroup) bool { return batch > l.First })
		}
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if version, verr := layout.ReadMarker(v.o.Dir, true); verr == nil && version >= layout.SealedVersion {
			v.damage("%s: the log of what was stored is not there", dir)
		}
		return nil
	case errors.Is(err, seal.ErrVersion):
		v.damage("%s: %v", dir, err)
		return nil
	case err != nil:
		return fmt.Errorf("read the log of what was stored: %w", err)
	}
	why, err := seal.Stopped(v.o.Dir)
	if err != nil {
		return err
	}
	if why != "" {
		v.notef("%s: nothing is signed any more (collector seal accept): %s", dir, strings.ReplaceAll(why, "\n", "; "))
	}
	for _, w := range wrong {
		v.damage("%s: %s", dir, w)
	}
	v.groups(dir, groups, again, dropped)
	return nil
}

// groups compares the groups that were read with what the log says of them. What is not there is only noted: it may have
// been set aside as damaged and dealt with, and what is missing unknown to all is damage by the manifest or the counts.
func (v *verify) groups(dir string, list map[uint64]loggedGroup, again *rewritings, dropped map[string]int64) {
	parts := map[string]*raw.PartReport{}
	for _, p := range v.rep.Parts {
		parts[p.Part.String()] = p
	}
	there := func(part string) bool { return parts[part] != nil }
	gone := map[string]int{}
	rewritten := map[string]map[uint64]uint64{} // by partition that was written again: how many events each batch has
	for _, batch := range slices.Sorted(maps.Keys(list)) {
		g := list[batch]
		p := parts[g.part]
		switch {
		case p == nil && again.madeOf(g.part, g.index) != nil:
			if rewritten[g.part] == nil {
				rewritten[g.part] = map[uint64]uint64{}
			}
			rewritten[g.part][batch] = g.events
			continue
		case p == nil:
			gone[g.part]++
			continue
		case p.State == nil || batch > p.State.ID || slices.ContainsFunc(p.Findings, func(f raw.Finding) bool { return f.Group == batch || f.Group == 0 }):
			continue
		}
		switch sum, ok := p.Sums[batch]; {
		case !ok:
			v.notef("%s: group %d is not there, and the log has it", p.Path, batch)
		case !sum.Is(g.hash, g.pieces):
			v.damage("%s: group %d is not what it was when it was stored, by the log: it was written again", p.Path, batch)
		}
	}
	for _, p := range v.rep.Parts {
		if p.Compacted != nil {
			v.madeGroups(p, again)
		}
	}
	said := map[*rewriting]bool{}
	judge := func(w *rewriting) {
		if said[w] || w.Flags&seal.Found != 0 {
			return
		}
		said[w] = true
		wrong, lacked := again.wrongSums(w)
		for _, x := range wrong {
			v.damage("%s: %s: %s", dir, w.words(), x)
		}
		for _, x := range lacked {
			v.notef("%s: %s: %s", dir, w.words(), x)
		}
	}
	for _, part := range slices.Sorted(maps.Keys(parts)) {
		p := parts[part]
		if w := again.maker(part, math.MaxInt64); p.Compacted != nil && w != nil {
			judge(w)
		}
	}
	for _, part := range slices.Sorted(maps.Keys(rewritten)) {
		w := again.madeOf(part, -1)
		lacks := false // some of its events are gone by rights, or it is said already that they are not there
		finals := again.finals(w, there)
		for _, final := range finals {
			switch _, is := dropped[final]; {
			case there(final):
				lacks = lacks || len(parts[final].Findings) > 0 || lacksGroups(parts[final], again)
			case is:
				lacks = true
			default:
				lacks = true
				gone[final] += len(again.maker(final, math.MaxInt64).madePart(final).Groups)
			}
		}
		v.rewrittenBatches(part, rewritten[part], lacks, func(batch uint64) (n uint64) {
			for _, final := range finals {
				if p := parts[final]; p != nil {
					n += p.Batches[batch]
				}
			}
			return n
		})
		for _, w := range again.chain(w, there) {
			judge(w)
		}
	}
	for _, part := range slices.Sorted(maps.Keys(gone)) {
		v.notef("%s: partition %s with %d groups is not there, and the log has no word of its being dropped", dir, part, gone[part])
	}
}

// madeGroups compares the groups of a partition that compaction has made with what the log says of them.
func (v *verify) madeGroups(p *raw.PartReport, again *rewritings) {
	w := again.maker(p.Part.String(), math.MaxInt64)
	if w == nil {
		if p.Compacted.Last > again.unsealed {
			v.damage("%s: compaction made it, and the log has no word of it", p.Path)
		}
		return
	}
	m := w.madePart(p.Part.String())
	there := map[uint64]bool{}
	for _, id := range p.IDs {
		there[id] = true
		if id < 1 || id > uint64(len(m.Groups)) {
			v.damage("%s: it has a group %d, and compaction made it with %d, by the log", p.Path, id, len(m.Groups))
			continue
		}
		is := &m.Groups[id-1]
		sum, ok := p.Sums[id]
		if ok && !sum.Is(is.Hash, is.Pieces) && !slices.ContainsFunc(p.Findings, func(f raw.Finding) bool { return f.Group == id || f.Group == 0 }) {
			v.damage("%s: group %d is not what compaction made, by the log: it was written again", p.Path, id)
		}
	}
	for i := range m.Groups {
		if id := uint64(i + 1); !there[id] {
			v.notef("%s: group %d is not there, and the log has it", p.Path, id)
		}
	}
}

// lacksGroups reports whether a partition that compaction has made has fewer groups than it was made with.
func lacksGroups(p *raw.PartReport, again *rewritings) bool {
	w := again.maker(p.Part.String(), math.MaxInt64)
	return w != nil && len(p.IDs) < len(w.madePart(p.Part.String()).Groups)
}

// rewrittenBatches compares how many events of each batch of a partition there are with how many were stored.
func (v *verify) rewrittenBatches(part string, batches map[uint64]uint64, lacks bool, is func(batch uint64) uint64) {
	wrong, none, first := 0, 0, ""
	for _, batch := range slices.Sorted(maps.Keys(batches)) {
		want, got := batches[batch], is(batch)
		if got == want || lacks && got < want {
			continue
		}
		if got == 0 { // as a group that is not there
			none++
			continue
		}
		if wrong++; wrong == 1 {
			first = fmt.Sprintf("of batch %d %d events are there, and %d were stored", batch, got, want)
		}
	}
	if none > 0 {
		v.notef("partition %s was written again, and of %d of its %d batches nothing was there any more, or is", part, none, len(batches))
	}
	if wrong > 0 {
		v.damage("partition %s was written again, and not all of it, or more, is in what was made of it: %s; so with %d of %d batches", part, first, wrong, len(batches))
	}
}
