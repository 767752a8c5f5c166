package evidence

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
)

// proofs checks that each event stands in its batch's leaf, or in a group that was made of its batch, and the leaf in the checkpoint's log.
func (v *verifier) proofs() error {
	err := v.eachLine(Proofs, func(line []byte) error {
		var p Proof
		if err := strict(line, &p, encodeLine); err != nil {
			return changed("%w", err)
		}
		list, err := v.about(&p)
		if err != nil {
			return changed("%w", err)
		}
		if p.Why != "" {
			v.rep.Unproved += int64(len(list))
			return nil
		}
		check := v.proof
		if p.Made != nil {
			check = v.madeProof
		}
		if err := check(&p, list); err != nil {
			return changed("%s: %w", p.name(), err)
		}
		v.rep.Proved += int64(len(list))
		if p.Made != nil {
			v.rep.Compacted += int64(len(list))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := v.allPieces(); err != nil {
		return err
	}
	for batch, list := range v.batches {
		if slices.ContainsFunc(list, func(k known) bool { return !k.proved }) {
			return changed("%s has nothing of batch %d, of which %s has events", Proofs, batch, Events)
		}
	}
	return nil
}

// name says what a line is about.
func (p *Proof) name() string {
	if p.Made != nil {
		return fmt.Sprintf("partition %.40s, group %d", p.Made.Partition, p.Made.Group)
	}
	return fmt.Sprintf("batch %d", p.Batch)
}

// about returns the events that a line is about, in order of their lines, and notes that it is: each event has one line. That of a batch is about all of its
// events that have none yet; from version 3 on, what is not proved may be on several.
func (v *verifier) about(p *Proof) (list []known, err error) {
	if p.Made != nil && v.format < 3 || (p.Made != nil) != (p.Batch == 0) || p.Made == nil && len(p.Batches)+len(p.Before) > 0 || p.Made != nil && p.Why != "" {
		return nil, errors.New("it is about a batch and a group that was made, or about neither")
	}
	all := v.batches[p.Batch]
	seen := 0
	for _, e := range p.Events {
		if len(e) == 0 || e[0] < 1 || e[0] > v.lines || p.Made == nil && v.batchOf[e[0]-1] != p.Batch {
			return nil, fmt.Errorf("it is about an event %v of batch %d, %s has no such", e, p.Batch, Events)
		}
		of := v.batches[v.batchOf[e[0]-1]]
		i, ok := slices.BinarySearchFunc(of, e[0], func(k known, n int64) int { return cmp.Compare(k.n, n) })
		if !ok || of[i].proved {
			return nil, fmt.Errorf("it is about event %d, and an earlier line is, too", e[0])
		}
		of[i].proved = true
		seen++
		list = append(list, of[i])
	}
	if seen == 0 || v.format < 3 && seen != len(all) {
		return nil, fmt.Errorf("it is about %d events of batch %d, %s has %d", len(p.Events), p.Batch, Events, len(all))
	}
	slices.SortFunc(list, func(a, b known) int { return cmp.Compare(a.n, b.n) })
	return list, nil
}

// claims reads what every kind of proof says: which events lie where, and the hashes of the rest of its tree. Without a
// checkpoint nothing is proved.
func (v *verifier) claims(p *Proof, list []known) (in []placed, tree []eventtree.Hash, err error) {
	if v.rep.Checkpoint.Store == "" {
		return nil, nil, errors.New("it is said to be proved, and there is no checkpoint")
	}
	if in, err = ordinals(p, list); err != nil {
		return nil, nil, err
	}
	tree, err = hashes(p.Tree)
	return in, tree, err
}

func (v *verifier) proof(p *Proof, list []known) error {
	in, tree, err := v.claims(p, list)
	if err != nil {
		return err
	}
	leaf, err := v.leaf(p)
	if err != nil {
		return err
	}
	if len(p.Pieces) > 0 {
		return v.byPieces(p, in, tree, leaf)
	}
	if leaf.Events != uint64(p.Of) {
		return fmt.Errorf("its leaf is of batch %d of the store %s with %d events", leaf.Batch, leaf.Store, leaf.Events)
	}
	known := make([]eventtree.Known, len(in))
	for i := range in {
		known[i] = eventtree.Known{Ordinal: in[i].ordinal, Hash: in[i].hash}
	}
	root, err := eventtree.Root(p.Of, known, tree)
	switch {
	case err != nil:
		return err
	case root != leaf.EventsRoot:
		return fmt.Errorf("a record of lines %s of %s was changed, or what is said of it: the batch does not have it so", linesOf(list), Events)
	}
	return nil
}

// placed is an event that a proof places in its batch: hash is that which it must have there.
type placed struct {
	n, ordinal int64
	hash       eventtree.Hash
}

// ordinals returns where a proof places the events of a batch.
func ordinals(p *Proof, list []known) ([]placed, error) {
	byLine := map[int64]*known{}
	for i := range list {
		byLine[list[i].n] = &list[i]
	}
	var in []placed
	for _, e := range p.Events {
		if len(e) != 2 && (len(e) != 3 || e[2] != 1) {
			return nil, fmt.Errorf("an event %v", e)
		}
		k := byLine[e[0]]
		if k == nil {
			return nil, fmt.Errorf("line %d of %s is not of this batch, or stands there twice", e[0], Events)
		}
		delete(byLine, e[0])
		one := placed{n: e[0], ordinal: e[1], hash: k.hash}
		if len(e) == 3 {
			one.hash = k.mixed
		}
		if before := len(in) - 1; one.ordinal < 0 || before >= 0 && one.ordinal <= in[before].ordinal {
			return nil, fmt.Errorf("%w: event %d is said to be number %d of its batch", eventtree.ErrProof, one.n, one.ordinal)
		}
		in = append(in, one)
	}
	return in, nil
}

// leaf checks that a proof's leaf is its batch's and stands in the log of the checkpoint.
func (v *verifier) leaf(p *Proof) (*seal.Leaf, error) {
	leaf, err := v.logged(&LoggedLeaf{Leaf: p.Leaf, Index: p.Index, Path: p.Path})
	if err != nil {
		return nil, err
	}
	if leaf.Kind != seal.Batch || leaf.Batch != p.Batch {
		return nil, fmt.Errorf("its leaf is of batch %d of the store %s", leaf.Batch, leaf.Store)
	}
	return leaf, nil
}

// logged checks that a leaf is of the bundle's store, and stands in the log of the checkpoint.
func (v *verifier) logged(l *LoggedLeaf) (*seal.Leaf, error) {
	path, err := hashes(l.Path)
	if err != nil {
		return nil, err
	}
	text, err := base64.StdEncoding.DecodeString(l.Leaf)
	if err != nil {
		return nil, fmt.Errorf("its leaf: %w", err)
	}
	leaf, err := seal.ParseLeaf(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("its leaf: %w", err)
	case leaf.Store.String() != v.store:
		return nil, fmt.Errorf("its leaf is of batch %d of the store %s", leaf.Batch, leaf.Store)
	}
	c := v.rep.Checkpoint
	if l.Index < 0 || l.Index >= c.Size {
		return nil, fmt.Errorf("its leaf is said to be number %d of %d", l.Index, c.Size)
	}
	if err := tlog.CheckRecord(treeHashes(path), c.Size, c.Root, l.Index, tlog.RecordHash(text)); err != nil {
		return nil, fmt.Errorf("its leaf is not in the log of the checkpoint: %w", err)
	}
	return leaf, nil
}

func linesOf(list []known) string {
	if len(list) == 1 {
		return fmt.Sprint(list[0].n)
	}
	return fmt.Sprintf("%d to %d", list[0].n, list[len(list)-1].n)
}

func hashes(list []string) (out []eventtree.Hash, err error) {
	for _, text := range list {
		h, err := hashOf(text)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}

func treeHashes(list []eventtree.Hash) tlog.RecordProof {
	var out tlog.RecordProof
	for _, h := range list {
		out = append(out, tlog.Hash(h))
	}
	return out
}

// counted compares what the query says with what was read.
func (v *verifier) counted() error {
	q := &v.rep.Query
	var hosts []string
	for h := range v.hosts {
		if !utf8.ValidString(h) {
			h = string([]rune(h)) // as JSON has it
		}
		hosts = append(hosts, h)
	}
	slices.Sort(hosts)
	if q.Events != v.lines || q.Records != v.records || q.Proved != v.rep.Proved || q.Unproved != v.rep.Unproved || !slices.Equal(slices.Compact(hosts), slices.Compact(slices.Sorted(slices.Values(q.Hosts)))) {
		return changed("%s says %d events (%d proved) with %d records of %q; there are %d (%d proved) with %d of %q", QueryFile, q.Events, q.Proved, q.Records, q.Hosts, v.lines, v.rep.Proved, v.records, hosts)
	}
	return nil
}
