package raw

import (
	"errors"
	"io/fs"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// LoadList reads a store's manifest. It is nil, without an error, where there is none that can be used.
func LoadList(dir string) (*manifest.Content, error) {
	c, err := manifest.Load(fsys.OS, dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, manifest.ErrDamaged) {
		return nil, nil //nolint:nilnil // who verifies the store says so
	}
	return c, err
}

// Judged returns what layout.Judge has to know of a partition's file, which was read as a whole.
func (p *Partition) Judged() layout.Judged {
	j := layout.Judged{Part: p.Part, Compacted: p.Compacted, Sound: !p.Incomplete && p.CheckPart() == nil}
	st, err := layout.DecodeState(p.State)
	switch {
	case p.Import != "":
		j.Last = p.LastImported()
	case err == nil && st.ID > 0:
		j.Last = st.ID
	case p.Compacted != nil:
		j.Last = p.Compacted.Last
	case err != nil && len(p.State) > 0:
		j.Sound = false
	}
	for i := range p.Groups {
		g := &p.Groups[i]
		if !g.Listed {
			continue
		}
		if first, _ := g.Batches(); j.First == 0 || first < j.First {
			j.First = first
		}
		j.Events += g.Sum.Events
	}
	return j
}

// Batches returns the first and the last batch that a group has events of.
func (g *Group) Batches() (first, last uint64) {
	if g.Sum.LastBatch > 0 {
		return g.Sum.FirstBatch, g.Sum.LastBatch
	}
	return g.ID, g.ID
}

// Judge says which partitions' files a start would not read, beside the others: what a compaction that was cut short has left, and what was rewritten and
// is there. list is the manifest, nil where there is none: then all files are opened. Else only those that it does not list are, and those that their
// verdicts depend on. What cannot be read counts as it does for a start.
func Judge(list *manifest.Content, files []layout.PartFile) (map[store.Part]layout.Verdict, error) {
	var judged []layout.Judged
	asked := map[string]bool{}
	for _, wanted := range []func(name string) bool{
		func(name string) bool { return list == nil || list.Part(name) == nil },
		func(name string) bool { return list != nil && list.Part(name) != nil && asked[name] },
	} {
		for _, f := range files {
			if !wanted(f.Part.String()) {
				continue
			}
			one, err := judgedFile(f)
			if errors.Is(err, fs.ErrNotExist) {
				continue // deleted meanwhile
			}
			if err != nil {
				return nil, err
			}
			judged = append(judged, one)
			if list != nil {
				for _, name := range layout.Asked(list, &one) {
					asked[name] = true
				}
			}
		}
	}
	return layout.Judge(list, judged), nil
}

// judgedFile reads what layout.Judge has to know of a file; of a damaged one it is the name.
func judgedFile(f layout.PartFile) (one layout.Judged, err error) {
	p, err := Open(f.Path, f.Part, false)
	one.Part = f.Part
	if p != nil {
		if err == nil {
			one = p.Judged()
		}
		_ = p.Close() // only read
	}
	if errors.Is(err, store.ErrDamaged) {
		err = nil
	}
	return one, err
}
