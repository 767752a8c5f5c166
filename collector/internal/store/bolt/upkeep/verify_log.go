package upkeep

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
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
}

// log verifies the log of what was stored: its files, what its own checkpoints say of it, and whether the groups are
// those that it has. Who may write the folder can make all of it fit again: against him a checkpoint from
// elsewhere helps, and Sealed.
func (v *verify) log() error {
	dir := filepath.Join(v.o.Dir, seal.Dir)
	groups := map[uint64]loggedGroup{}
	_, wrong, err := seal.Check(v.o.Dir, func(l *seal.Leaf) {
		switch l.Kind {
		case seal.Batch:
			if l.Flags&seal.Elsewhere == 0 {
				groups[l.Batch] = loggedGroup{l.Part, l.Hash, l.Pieces}
			}
		case seal.Dropped:
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
	v.groups(dir, groups)
	return nil
}

// groups compares the groups that were read with what the log says of them. What is not there is only noted: it may have
// been set aside as damaged and dealt with, and what is missing unknown to all is damage by the manifest or the counts.
func (v *verify) groups(dir string, list map[uint64]loggedGroup) {
	parts := map[string]*raw.PartReport{}
	for _, p := range v.rep.Parts {
		parts[p.Part.String()] = p
	}
	gone := map[string]int{}
	for _, batch := range slices.Sorted(maps.Keys(list)) {
		g := list[batch]
		p := parts[g.part]
		switch {
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
	for _, part := range slices.Sorted(maps.Keys(gone)) {
		v.notef("%s: partition %s with %d groups is not there, and the log has no word of its being dropped", dir, part, gone[part])
	}
}
