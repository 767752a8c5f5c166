package group

// Counts calls fn with each host that the group has events of, by name, and how many. Of an event
// with more than 65,535 records that many are counted. It reads no frame.
func (g *Group) Counts(fn func(host string, events, records uint64)) error {
	if err := g.loadHosts(); err != nil {
		return err
	}
	cur, events, records := -1, uint64(0), uint64(0)
	for i := range g.numBlocks() { // by host
		blk, host := rawBlock(g.blocks[i*blockSize:])
		if int(host) >= len(g.hosts) || int(host) < cur {
			return damaged("block %d of host %d of %d", i, host, len(g.hosts))
		}
		if int(host) != cur && cur >= 0 {
			fn(g.hosts[cur], events, records)
			events, records = 0, 0
		}
		cur = int(host)
		events, records = events+uint64(blk.Events), records+uint64(blk.Records)
	}
	if cur >= 0 {
		fn(g.hosts[cur], events, records)
	}
	return nil
}
