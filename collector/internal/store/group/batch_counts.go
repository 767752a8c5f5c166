package group

// CountBatches adds, by batch, how many of the group's events are of it. It reads no frame. A group that is one batch counts under batch. Error:
// store.ErrDamaged.
func (g *Group) CountBatches(batch uint64, into map[uint64]uint64) error {
	b, err := g.Batches()
	if err != nil {
		return err
	}
	for i := range g.numBlocks() {
		blk, _ := rawBlock(g.blocks[i*blockSize:])
		if b == nil {
			into[batch] += uint64(blk.Events)
			continue
		}
		r := b.Block(i, &blk, batch)
		for range blk.Events {
			into[r.Next()]++
		}
	}
	return nil
}

// BatchesOf returns the batches of the events with these ordinals, which ascend and are the group's. Error: store.ErrDamaged.
func (g *Group) BatchesOf(ordinals []int64) ([]uint64, error) {
	b, err := g.Batches()
	if err != nil {
		return nil, err
	}
	out := make([]uint64, 0, len(ordinals))
	for i := range g.numBlocks() {
		blk, _ := rawBlock(g.blocks[i*blockSize:])
		last := int64(blk.First) + int64(blk.Events)
		if len(out) == len(ordinals) || ordinals[len(out)] >= last {
			continue
		}
		r := b.Block(i, &blk, 0)
		for at := int64(blk.First); at < last; at++ {
			batch := r.Next()
			if len(out) < len(ordinals) && ordinals[len(out)] == at {
				out = append(out, batch)
			}
		}
	}
	if len(out) != len(ordinals) {
		return nil, damaged("an event %v of %d", ordinals[len(out)], g.Summary.Events)
	}
	return out, nil
}
