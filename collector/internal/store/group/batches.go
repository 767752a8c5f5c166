package group

import (
	"github.com/auditfleet/auditfleet/pkg/varint"
)

// Which batch each event of a group is of lies in parts, by block: runs of events of one batch, in order of their ordinals. A run's batch counts from
// that of the run before. A group that is one batch has none.

// Batches says of the events of a group which batch they are of. It holds none of the group's bytes. Once made it never changes,
// so any number of goroutines may read it, each with BatchReaders of its own.
type Batches struct{ parts parts }

// Batches reads which batch each of the group's events is of. It is nil, without an error, for a group that is one batch.
// Error: store.ErrDamaged.
func (g *Group) Batches() (*Batches, error) { return g.batches(nil) }

// BatchesFor is Batches for the events of some blocks only.
func (g *Group) BatchesFor(cands []Candidate) (*Batches, error) { return g.batches(g.chunksOf(cands)) }

func (g *Group) batches(want []bool) (*Batches, error) {
	if g.Summary.LastBatch == 0 {
		return nil, nil
	}
	b, err := g.section(secBatches, 0)
	if err != nil {
		return nil, err
	}
	r := varint.NewReader(b)
	p, err := g.readChunks(&r, want, func(block int, part []byte) error {
		blk, _ := rawBlock(g.blocks[block*blockSize:])
		return g.checkBatches(part, blk.Events)
	})
	if err != nil {
		return nil, err
	}
	return &Batches{p}, nil
}

// checkBatches makes sure that a block's runs are of the batches that the summary says, and cover its events: a BatchReader relies on it.
func (g *Group) checkBatches(part []byte, events uint32) error {
	r := varint.NewReader(part)
	batch, left := uint64(0), uint64(events)
	for r.Len() > 0 {
		batch += uint64(unzigzag(r.Uvarint()))
		n := r.Uvarint()
		if batch < g.Summary.FirstBatch || batch > g.Summary.LastBatch || n == 0 || n > left {
			return damaged("%d events of batch %d: the summary says %d to %d", n, batch, g.Summary.FirstBatch, g.Summary.LastBatch)
		}
		left -= n
	}
	if r.Bad() || left > 0 {
		return damaged("%d events without a batch", left)
	}
	return nil
}

// Block returns a reader of the batches of a block's events; index is the block's in the group. A nil receiver is allowed: of
// a group that is one batch, all events are of the batch that the caller says.
func (b *Batches) Block(index int, blk *Block, batch uint64) BatchReader {
	if b == nil {
		return BatchReader{batch: batch, left: uint64(blk.Events)}
	}
	part, _ := b.parts.of(index)
	return BatchReader{runs: varint.NewReader(part)}
}

// BatchReader reads the batches of a block's events, each once and in order. It is for one goroutine.
type BatchReader struct {
	runs  varint.Reader // that are still to be read
	batch uint64        // of the run
	left  uint64        // events of the run
}

// Next returns the batch of the next event. It must be called for every event of the block, also for those that are passed over.
func (r *BatchReader) Next() uint64 {
	if r.left == 0 && r.runs.Len() > 0 {
		r.batch += uint64(unzigzag(r.runs.Uvarint()))
		r.left = r.runs.Uvarint()
	}
	r.left--
	return r.batch
}

// unzigzag is the reverse of what binary.AppendVarint does to its number.
func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// NewBatchReader returns a reader of the batches of a block's events as Batches.Runs has them, or of one batch, where there are no runs. Runs that say too
// little, or anything else, give some batch.
func NewBatchReader(runs []byte, batch uint64, events uint32) BatchReader {
	if len(runs) == 0 {
		return BatchReader{batch: batch, left: uint64(events)}
	}
	return BatchReader{runs: varint.NewReader(runs)}
}
