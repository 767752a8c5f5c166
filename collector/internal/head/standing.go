package head

// Standing is how many records of a host there are, and how many of them are in stored batches.
type Standing struct {
	Host             string
	Received, Stored uint64
}

// Standings returns how far each host's records are stored, where batches up to one count as stored, and the last that is, all of one moment. It returns
// no host before all counts that was stored when the collector started: of how many records that were is not known.
func (h *Head) Standings(upTo uint64) (list []Standing, batch uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for ; n < len(h.reached) && h.reached[n].batch <= upTo; n++ {
		for _, r := range h.reached[n].list {
			r.of.stored = r.stored
		}
	}
	h.reached = append(h.reached[:0:0], h.reached[n:]...)
	batch = min(h.stats.StoredID, upTo)
	if batch < h.loadedID {
		return nil, batch
	}
	for _, x := range h.hosts {
		list = append(list, Standing{x.Name, x.Records, min(x.stored, x.Records)})
	}
	return list, batch
}

// reached are the reaches of a batch that is stored.
type reached struct {
	batch uint64
	list  []reach
}

// reachedApart is how many stored batches' reaches are kept apart; those of later ones are put together, for the cluster may be away for long.
const reachedApart = 64

// reach keeps the reaches of a batch that is stored now. mu is held.
func (h *Head) reach(batch uint64, list []reach) {
	if len(h.reached) < reachedApart {
		h.reached = append(h.reached, reached{batch, list})
		return
	}
	last := &h.reached[len(h.reached)-1]
	at := make(map[*host]int, len(last.list))
	for i, r := range last.list {
		at[r.of] = i
	}
	for _, r := range list {
		if i, there := at[r.of]; there {
			last.list[i] = r
		} else {
			last.list = append(last.list, r)
		}
	}
	last.batch = batch
}

// reach is how many of a host's records are stored once a batch is.
type reach struct {
	of     *host
	stored uint64
}

// reaches returns it for the batch that is cut, of the hosts for which it may be more than for the batch before: something came of them, or events were open. open
// is how many records of a host are in events that still are. mu is held.
func (h *Head) reaches(open map[*host]uint64) (list []reach) {
	for _, x := range h.dirty {
		list = append(list, reach{x, x.Records - min(open[x], x.Records)})
		delete(h.wereOpen, x)
	}
	for x := range h.wereOpen {
		list = append(list, reach{x, x.Records - min(open[x], x.Records)})
	}
	h.wereOpen = open
	return list
}
