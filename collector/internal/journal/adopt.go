package journal

// A sender may have been another collector's before. What that remembered of its resends comes as the changes that it gave to its store,
// and is remembered here beside what is known already: what it acknowledged is a resend here, too.

// adoptedStream tells apart the numberings of other collectors, each of which counts its own.
type adoptedStream struct {
	member string
	of     identity
	id     uint32
}

// Adopt remembers what another collector does, of which it said what has changed. It is not among the changes that Senders returns: that collector keeps it, and
// whoever starts again adopts it again. What this collector remembers of its own senders never gives way to it. ErrSenders says what could not be read; the rest is remembered.
func (j *Journal) Adopt(member string, changed []KV) error {
	j.commitMu.Lock()
	defer j.commitMu.Unlock()
	if j.senders == nil {
		return nil
	}
	return j.senders.adopt(member, changed)
}

func (s *senders) adopt(member string, changed []KV) error {
	theirs, err := loadSenders(changed, s.max)
	for _, x := range theirs.offsets.names {
		for _, p := range x.list {
			s.offsets.adopt(x.name, p.id, p.next)
		}
	}
	for id, x := range theirs.all {
		own := s.all[id]
		if own == nil {
			if len(s.all) >= s.max || s.bytes >= s.most {
				continue // what is known of its own senders is worth more
			}
			own = s.get(id)
			own.used = 0 // not yet here
		}
		own.tails.adopt(own, &x.tails)
		for st := range x.streams {
			s.adoptStream(member, own, st)
		}
	}
	s.shrink()
	return err
}

// adopt adds the tails that are not known.
func (ts *tails) adopt(x *sender, theirs *tails) {
	for t := theirs.lru.next; t != &theirs.lru; t = t.next {
		if !ts.has(t.hash) {
			ts.add(x, &tail{hash: t.hash, used: t.used})
			ts.stored[t.hash] = true // elsewhere
		}
	}
}

// adoptStream takes over the hashes of a numbering. One whose sender is here by now goes on here.
func (s *senders) adoptStream(member string, x *sender, theirs *stream) {
	key := adoptedStream{member, x.id, theirs.id}
	st := s.adopted[key]
	if _, there := x.streams[st]; !there {
		st = nil
	}
	if st == nil { // it was taken over by an earlier process, perhaps
		for own := range x.streams {
			if own.last == theirs.last && own.name == theirs.name && len(own.conns) == 0 {
				st = own
			}
		}
	}
	if st == nil {
		x.nextID++
		st = x.addStream(&stream{id: x.nextID, last: theirs.last, name: theirs.name})
	}
	if s.adopted == nil {
		s.adopted = map[adoptedStream]*stream{}
	}
	s.adopted[key] = st
	if len(st.conns) > 0 {
		return
	}
	if theirs.name != "" || theirs.last != 0 { // else only some of its hashes have changed
		st.last = theirs.last
	}
	for i, c := range theirs.ring {
		if c == nil {
			continue
		}
		if st.ring[i] == nil {
			x.account(chunkCost)
		}
		own := *c
		st.ring[i] = &own
	}
	for back := numChunks; back >= 0; back-- {
		chunk := (st.last/chunkLen - uint32(back)) & (seqMask / chunkLen)
		if st.ring[chunk%numChunks] != nil {
			st.enterIndex(chunk)
		}
	}
}
