package evidence

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
)

// proofs checks that each event stands in its batch's leaf, and the leaf in the checkpoint's log.
func (v *verifier) proofs() error {
	err := v.eachLine(Proofs, func(line []byte) error {
		var p Proof
		if err := strict(line, &p, encodeLine); err != nil {
			return changed("%w", err)
		}
		list := v.batches[p.Batch]
		if len(list) == 0 || len(p.Events) != len(list) {
			return changed("it is about %d events of batch %d, %s has %d", len(p.Events), p.Batch, Events, len(list))
		}
		delete(v.batches, p.Batch)
		if p.Why != "" {
			v.rep.Unproved += int64(len(list))
			return nil
		}
		if err := v.proof(&p, list); err != nil {
			return changed("batch %d: %w", p.Batch, err)
		}
		v.rep.Proved += int64(len(list))
		return nil
	})
	if err != nil {
		return err
	}
	if err := v.allPieces(); err != nil {
		return err
	}
	for batch := range v.batches {
		return changed("%s has nothing of batch %d, of which %s has events", Proofs, batch, Events)
	}
	return nil
}

func (v *verifier) proof(p *Proof, list []known) error {
	if v.rep.Checkpoint.Store == "" {
		return errors.New("it is said to be proved, and there is no checkpoint")
	}
	in, err := ordinals(p, list)
	if err != nil {
		return err
	}
	tree, err := hashes(p.Tree)
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
	path, err := hashes(p.Path)
	if err != nil {
		return nil, err
	}
	text, err := base64.StdEncoding.DecodeString(p.Leaf)
	if err != nil {
		return nil, fmt.Errorf("its leaf: %w", err)
	}
	leaf, err := seal.ParseLeaf(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("its leaf: %w", err)
	case leaf.Kind != seal.Batch || leaf.Batch != p.Batch || leaf.Store.String() != v.store:
		return nil, fmt.Errorf("its leaf is of batch %d of the store %s", leaf.Batch, leaf.Store)
	}
	c := v.rep.Checkpoint
	if p.Index < 0 || p.Index >= c.Size {
		return nil, fmt.Errorf("its leaf is said to be number %d of %d", p.Index, c.Size)
	}
	if err := tlog.CheckRecord(treeHashes(path), c.Size, c.Root, p.Index, tlog.RecordHash(text)); err != nil {
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
