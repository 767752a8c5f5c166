package upkeep

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/raw"
)

// mostPasses bounds how often the partitions are listed again because a server has compacted some meanwhile.
const mostPasses = 10

// partitions verifies each partition, and finds the state of the last batch. A server may drop some meanwhile, which is no damage, and put others in the
// place of some: these are verified then.
func (v *verify) partitions(ctx context.Context) error {
	read := map[string]*raw.PartReport{} // by path; nil: it was gone, or there was no pass left to read it
	var verdicts map[store.Part]layout.Verdict
	for pass := 1; ; pass++ {
		var err error
		if verdicts, err = raw.Judge(v.list, v.files.Partitions); err != nil {
			return err
		}
		for _, f := range v.files.Partitions {
			if read[f.Path] != nil || verdicts[f.Part] != layout.Counts {
				continue
			}
			rep, err := v.bolt.Partition(ctx, f.Path, f.Part)
			if errors.Is(err, fs.ErrNotExist) && v.rep.Server != "" {
				continue
			}
			if err != nil {
				return err
			}
			read[f.Path] = rep
		}
		again, err := v.listedAgain()
		if err != nil {
			return err
		}
		v.moving = v.moving || again
		if !again || pass == mostPasses {
			break
		}
	}
	for _, f := range v.files.Partitions {
		switch rep := read[f.Path]; {
		case verdicts[f.Part] != layout.Counts:
			v.passedOver(f, verdicts[f.Part])
		case rep != nil:
			v.part(rep)
		default:
			v.moving = true
			v.notef("%s: dropped or rewritten meanwhile", f.Path)
		}
	}
	return nil
}

// listedAgain lists the files again, and reports whether a server has rewritten partitions since: these are read then. One that it has begun since is not,
// and may have batches older than the last of one that was read, where the server's clock went back.
func (v *verify) listedAgain() (again bool, err error) {
	if v.rep.Server == "" {
		return false, nil
	}
	var list *manifest.Content
	if v.list != nil {
		if list, err = raw.LoadList(v.o.Dir); err != nil {
			return false, err
		}
	}
	files, err := layout.List(v.o.Dir)
	if files == nil {
		return false, err
	}
	v.moving = v.moving || slices.ContainsFunc(files.Partitions, func(f layout.PartFile) bool {
		return !slices.ContainsFunc(v.files.Partitions, func(x layout.PartFile) bool { return x.Part == f.Part })
	})
	if list == nil || list.ID != v.list.ID || !compactedSince(v.list, list) {
		return false, nil
	}
	list.Journal = v.list.Journal // as it was when the journal was read
	v.files, v.list = files, list
	return true, nil
}

// compactedSince reports whether partitions were rewritten between two manifests.
func compactedSince(before, after *manifest.Content) bool {
	return !slices.EqualFunc(before.Replaced, after.Replaced, func(a, b manifest.Replaced) bool { return a.Name == b.Name && a.At.Equal(b.At) })
}

// passedOver says that a file is not read, and why.
func (v *verify) passedOver(f layout.PartFile, verdict layout.Verdict) {
	switch {
	case verdict == layout.Doubtful:
		v.damage("%s: compaction has put its events into others, or it was made by one that did not come to count, and it is there: the next start sets it aside, and nothing reads it", f.Path)
	case v.rep.Server == "":
		v.notef("%s: left by a compaction that was cut short: the next start removes it", f.Path)
	}
}

// part takes in what was found out about a partition.
func (v *verify) part(rep *raw.PartReport) {
	v.rep.Parts = append(v.rep.Parts, rep)
	v.rep.Readable += rep.Events
	if rep.Catalogued > rep.Events {
		v.rep.Lost += rep.Catalogued - rep.Events
	}
	for i := range rep.Findings {
		v.damage("%v", &rep.Findings[i])
	}
	v.sameStore(rep.Path, rep.ID)
	for name, h := range rep.Hosts {
		sum := v.stored[name]
		sum.Events, sum.Records, sum.Bytes = sum.Events+h.Events, sum.Records+h.Records, sum.Bytes+h.Bytes
		v.stored[name] = sum
	}
	// What compaction has made has the state of what it was made of, and of equal ones that of another counts.
	if st := rep.State; st != nil && rep.Import == "" && st.ID > 0 && (v.state == nil || st.ID > v.state.ID || st.ID == v.state.ID && rep.Compacted == nil) {
		v.state = st
	}
}
