package group

import (
	"errors"
	"io"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
)

// The events of a batch that were written again with those of others, into several rows of groups, have the root that they had in the group they were
// stored in.
func TestMergedRoots(t *testing.T) {
	t.Parallel()
	c := codec(t)
	singles, all := manyBatches(t, c, 11, 4, 800)
	var halves [2][]kept
	for _, k := range all { // by what two equal in time and serial have in common
		i := int(k.ev.Ms/1000+int64(k.ev.Serial)) % 2
		halves[max(i, -i)] = append(halves[max(i, -i)], k)
	}
	var rows []func() ([]byte, error)
	for _, half := range halves {
		blobs, _ := build(t, c, half, 150)
		rows = append(rows, func() (b []byte, err error) {
			if len(blobs) > 0 {
				b, blobs = blobs[0], blobs[1:]
			}
			return b, nil
		})
	}
	trees := map[uint64]*eventtree.Tree{}
	tied := 0
	m := c.NewMerger(func(batch uint64) bool { return batch != 2 }, rows...)
	for {
		e, err := m.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if trees[e.Batch] == nil {
			trees[e.Batch] = &eventtree.Tree{}
		}
		if e.Tied {
			tied++
		}
		hash, mixed := m.Hash()
		if trees[e.Batch].Add(hash); (hash == mixed) != (e.Host != "") {
			t.Fatalf("host %q: %x and %x", e.Host, hash, mixed)
		}
	}
	if tied > 0 {
		t.Errorf("%d events whose order is not known, and those equal in time and serial went to one row", tied)
	}
	for i, blob := range singles {
		g, err := c.Open(blob)
		if err != nil {
			t.Fatal(err)
		}
		want, err := g.EventsRoot()
		if err != nil {
			t.Fatal(err)
		}
		got := trees[uint64(i+1)]
		if i == 1 {
			if got != nil {
				t.Error("a batch that was not wanted")
			}
			continue
		}
		if got.Root() != want || uint64(got.Len()) != g.Summary.Events {
			t.Errorf("batch %d: %d events, %x, want %d, %x", i+1, got.Len(), got.Root(), g.Summary.Events, want)
		}
	}
}
