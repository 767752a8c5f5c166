package evidence

import (
	"errors"
	"fmt"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
)

// madeProof checks a proof by a group that compaction has made: that the key vouches for the leaf that made it, that the events lie in the group, each as one of its
// batch, and that these batches are of what it was made of, by leaves that were in the log before.
func (v *verifier) madeProof(p *Proof, list []known) error {
	in, tree, err := v.claims(p, list)
	if err != nil {
		return err
	}
	leaf, err := v.vouched(&LoggedLeaf{Leaf: p.Leaf, Index: p.Index, Path: p.Path})
	if err != nil {
		return err
	}
	is := madeGroup(leaf, p.Made)
	if is == nil {
		return errors.New("its leaf says nothing of that group")
	}
	if len(p.Pieces) == 0 {
		return errors.New("it has no pieces")
	}
	shown, err := v.inGroup(p, in, tree, is)
	if err != nil {
		return err
	}
	at := make([]int64, len(in))
	for i := range in {
		at[i] = in[i].ordinal
	}
	batches, err := shown.BatchesOf(at)
	if err != nil {
		return err
	}
	used := map[uint64]bool{}
	for i, batch := range batches {
		if want := v.batchOf[in[i].n-1]; batch != want || batch < is.First || batch > is.Last {
			return fmt.Errorf("line %d of %s is of batch %d by its pieces, and not of %d", in[i].n, Events, batch, want)
		}
		used[batch] = true
	}
	sources, err := v.sources(p, leaf)
	if err != nil {
		return err
	}
	return v.storedIn(p, used, sources)
}

// vouched is logged, for a leaf of what was written again: the log alone says of it only that it is there.
func (v *verifier) vouched(l *LoggedLeaf) (*seal.Leaf, error) {
	leaf, err := v.logged(l)
	switch {
	case err != nil:
		return nil, err
	case leaf.Kind != seal.Rewritten:
		return nil, fmt.Errorf("its leaf is of the kind %s", leaf.Kind)
	case leaf.Flags&seal.Found != 0 || !leaf.VouchedBy(v.keys):
		return nil, errors.New("its leaf is not signed by the key: whoever could write the collector's files may have made it")
	}
	return leaf, nil
}

// sources returns what a group was made of, at first and at later hand, by partition.
func (v *verifier) sources(p *Proof, leaf *seal.Leaf) (map[string]seal.Source, error) {
	out := map[string]seal.Source{}
	add := func(l *seal.Leaf) {
		for _, s := range l.Sources {
			out[s.Part] = s
		}
	}
	add(leaf)
	before := p.Index
	for i := range p.Before {
		b := &p.Before[i]
		l, err := v.vouched(b)
		if err != nil {
			return nil, fmt.Errorf("what was made before: %w", err)
		}
		of := false
		for _, m := range l.Made {
			_, is := out[m.Part]
			of = of || is
		}
		if !of || b.Index >= before {
			return nil, errors.New("what was made before is not what it was made of")
		}
		before = b.Index
		add(l)
	}
	return out, nil
}

// storedIn checks the leaves of the batches that the events are of.
func (v *verifier) storedIn(p *Proof, used map[uint64]bool, sources map[string]seal.Source) error {
	last := uint64(0)
	for i := range p.Batches {
		b := &p.Batches[i]
		l, err := v.logged(b)
		if err != nil {
			return err
		}
		if l.Kind != seal.Batch || !used[l.Batch] || l.Batch <= last {
			return fmt.Errorf("a leaf of batch %d, of which it has no event, or another leaf", l.Batch)
		}
		last = l.Batch
		src, ok := sources[l.Part]
		switch {
		case !ok || l.Batch < src.First || l.Batch > src.Last:
			return fmt.Errorf("batch %d was stored in partition %s, and the group was not made of that", l.Batch, l.Part)
		case b.Index >= p.Index:
			return fmt.Errorf("batch %d came into the log after the group was made", l.Batch)
		case uint64(len(v.batches[l.Batch])) > l.Events:
			return fmt.Errorf("batch %d had %d events, and there are %d of it", l.Batch, l.Events, len(v.batches[l.Batch]))
		}
	}
	if len(p.Batches) != len(used) {
		return fmt.Errorf("it has leaves of %d batches, and events of %d", len(p.Batches), len(used))
	}
	return nil
}
