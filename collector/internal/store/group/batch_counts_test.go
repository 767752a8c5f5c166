package group

import (
	"errors"
	"io"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// How many events of each batch a group has, and of which batch some are, is what reading all of them says.
func TestBatchCounts(t *testing.T) {
	c, err := NewCodec(1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	blobs, all := manyBatches(t, c, 7, 5, 900)
	b := c.NewBuilder()
	for _, k := range all {
		if err := b.Add(k.host, k.batch, k.ev); err != nil {
			t.Fatal(err)
		}
	}
	blob, _, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	for i, blob := range [][]byte{blob, blobs[2]} {
		g, err := c.Open(blob)
		if err != nil {
			t.Fatal(err)
		}
		cur, err := g.Cursor(3, math.MinInt64, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		want, got := map[uint64]uint64{}, map[uint64]uint64{}
		var batches, some []uint64
		var ordinals []int64
		for n := int64(0); ; n++ {
			_, batch, _, err := cur.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			want[batch]++
			if batches = append(batches, batch); n%5 == 1 || n > 700 {
				ordinals, some = append(ordinals, n), append(some, batch)
			}
		}
		if err := g.CountBatches(3, got); err != nil || len(got) != []int{5, 1}[i] {
			t.Fatalf("%d batches, %v", len(got), err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if i > 0 {
			continue
		}
		of, err := g.BatchesOf(ordinals)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(some, of); d != "" {
			t.Error(d)
		}
		if _, err := g.BatchesOf([]int64{int64(len(batches))}); err == nil {
			t.Error("an event beyond the last has a batch")
		}
	}
}
