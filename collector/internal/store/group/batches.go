package group

import (
	"slices"

	"github.com/auditfleet/auditfleet/pkg/varint"
)

// Which batch each event of a group is of lies in a section of its own, in the form of a dictionary:
//
//	values    the batches
//	keys      the least batch, then the gap from each to the next; then of each block the length of its part
//	postings  of each block its part: runs of events of one batch, in order of their ordinals; the place of the
//	          run's batch among all, less that of the run before (zigzag), and how many events
//
// A group that is one batch has no such section.

// Batches says of each event of a group which batch it is of. It holds none of the group's bytes. Once made it never changes,
// so any number of goroutines may read it, each with BatchReaders of its own.
type Batches struct {
	all  []uint64 // ascending
	ends []uint32 // by block: where its runs end in runs
	runs []byte   // of all blocks; each block's cover its events
}

// Batches reads which batch each of the group's events is of. It is nil, without an error, for a group that is one batch.
// Error: store.ErrDamaged.
func (g *Group) Batches() (*Batches, error) {
	if g.Summary.LastBatch == 0 {
		return nil, nil
	}
	b, err := g.section(secBatches, 0)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, damaged("no section of batches")
	}
	d, keys, err := g.c.splitDict(b)
	if err != nil {
		return nil, err
	}
	r := varint.NewReader(keys)
	out := &Batches{all: make([]uint64, 0, d.n), ends: make([]uint32, 0, g.numBlocks())}
	last := uint64(0)
	for range d.n {
		gap := r.Uvarint()
		if gap == 0 || last+gap < last {
			return nil, damaged("batch %d of %d", len(out.all), d.n)
		}
		last += gap
		out.all = append(out.all, last)
	}
	if d.n == 0 || out.all[0] != g.Summary.FirstBatch || last != g.Summary.LastBatch {
		return nil, damaged("%d batches to %d, the summary says %d to %d", d.n, last, g.Summary.FirstBatch, g.Summary.LastBatch)
	}
	runs, err := g.c.unpack(d.posts, d.packed, d.size)
	if err != nil {
		return nil, err
	}
	out.runs = slices.Clone(runs)
	end := uint64(0)
	for i := range g.numBlocks() {
		from := end
		if end += r.Uvarint(); end > uint64(len(runs)) || end < from {
			return nil, damaged("batches of %d bytes, %d are there", end, len(runs))
		}
		blk, _ := rawBlock(g.blocks[i*blockSize:])
		if err := out.check(out.runs[from:end], blk.Events); err != nil {
			return nil, err
		}
		out.ends = append(out.ends, uint32(end))
	}
	if !r.Done() || end != uint64(len(runs)) {
		return nil, damaged("batches of %d blocks in %d bytes", g.numBlocks(), len(runs))
	}
	return out, nil
}

// check makes sure that runs are of batches that are there, and cover that many events: a BatchReader relies on it.
func (b *Batches) check(runs []byte, events uint32) error {
	r := varint.NewReader(runs)
	place, left := int64(0), uint64(events)
	for r.Len() > 0 {
		place += unzigzag(r.Uvarint())
		n := r.Uvarint()
		if place < 0 || place >= int64(len(b.all)) || n == 0 || n > left {
			return damaged("%d events of batch %d of %d", n, place, len(b.all))
		}
		left -= n
	}
	if r.Bad() || left > 0 {
		return damaged("%d events without a batch", left)
	}
	return nil
}

// All returns the batches, ascending; callers only read them.
func (b *Batches) All() []uint64 { return b.all }

// Block returns a reader of the batches of a block's events; index is the block's in the group. A nil receiver is allowed: of
// a group that is one batch, all events are of the batch that the caller says.
func (b *Batches) Block(index int, blk *Block, batch uint64) BatchReader {
	if b == nil || index >= len(b.ends) {
		return BatchReader{batch: batch, left: uint64(blk.Events)}
	}
	from, to := span(b.ends, index)
	return BatchReader{b: b, runs: varint.NewReader(b.runs[from:to])}
}

// BatchReader reads the batches of a block's events, each once and in order. It is for one goroutine.
type BatchReader struct {
	b     *Batches
	runs  varint.Reader // that are still to be read
	place int64
	batch uint64 // of the run
	left  uint64 // events of the run
}

// Next returns the batch of the next event. It must be called for every event of the block, also for those that are passed over.
func (r *BatchReader) Next() uint64 {
	if r.left == 0 && r.b != nil && r.runs.Len() > 0 {
		r.place += unzigzag(r.runs.Uvarint())
		r.batch, r.left = r.b.all[r.place], r.runs.Uvarint()
	}
	r.left--
	return r.batch
}

// unzigzag is the reverse of what binary.AppendVarint does to its number.
func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }
