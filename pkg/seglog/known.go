package seglog

import "slices"

// Known is what a log's owner stores about it outside the log's folder, so that Open
// notices segments that were taken away, added or cut at the end. The zero value says
// that nothing is known.
//
// What must hold: Options.Changed has made Known durable after a segment has got its
// name and before the log calls any entry in it durable, and before a segment is
// deleted. So whatever a power cut leaves, every segment that Known lists is in the
// folder, and one that is in the folder and not listed is the newest, or is in Dropping.
type Known struct {
	First  uint64 `json:"first"`  // index of the oldest segment's first entry
	Oldest uint64 `json:"oldest"` // its generation
	Last   uint64 `json:"last"`   // every entry up to it was durable
	Newest uint64 `json:"newest"` // generation of the newest segment; 0: nothing is known
	Begins uint64 `json:"begins"` // index of the newest segment's first entry
	// Unmarked is the newest generation that may be without an ID: the log was begun
	// before it had one.
	Unmarked uint64 `json:"unmarked,omitempty"`
	// Dropping are the segments that are being deleted, all below First.
	Dropping []string `json:"dropping,omitempty"`
}

// Equal reports whether k and o are the same, field by field.
func (k Known) Equal(o Known) bool {
	same := slices.Equal(k.Dropping, o.Dropping)
	return same && k.First == o.First && k.Oldest == o.Oldest && k.Last == o.Last && k.Newest == o.Newest && k.Begins == o.Begins && k.Unmarked == o.Unmarked
}

// Known returns what the owner must store about the log as it is now. Any goroutine may
// call it, but not from Options.Changed: Changed runs with the log's lock held.
func (l *Log) Known() Known {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.knownNow()
}

// knownNow returns what Known does; l.mu is held.
func (l *Log) knownNow() Known {
	list := *l.segments.Load()
	k := Known{
		First: list[0].first, Oldest: list[0].gen, Last: l.synced.Load(), Newest: list[len(list)-1].gen,
		Begins:   list[len(list)-1].first,
		Unmarked: l.unmarked, Dropping: slices.Clone(l.garbage),
	}
	if k.Unmarked < k.Oldest && len(l.garbage) == 0 {
		k.Unmarked = 0
	}
	return k
}

// reportKnown has the owner make durable what is known now, and lost, what Open found
// missing. l.mu is held, or nobody else knows l.
func (l *Log) reportKnown(lost []Damage) error {
	if l.opt.Changed == nil {
		return nil
	}
	return l.opt.Changed(l.knownNow(), lost)
}

// missing returns what the folder lacks of what is known: segments in front, and the newest
// one with the entries up to Last. newest is the last segment there is, nil when there is
// none; next is the index that would come next, and end where its frames end.
func (d *folder) missing(k Known, newest *segment, next uint64, end int64) (out []Damage) {
	if k.Newest == 0 {
		return nil
	}
	first := k.Last + 1
	if len(d.segments) > 0 {
		first = d.segments[0].first
	}
	for _, h := range d.headless {
		first = min(first, h.first)
	}
	if first > k.First && len(d.segments) > 0 {
		out = append(out, Damage{File: segmentName(k.First, k.Oldest), First: k.First, Last: first - 1, Certain: true, Err: ErrMissing})
	}
	gen := uint64(0)
	if newest != nil {
		gen = newest.gen
	}
	for _, h := range d.headless {
		gen = max(gen, h.gen)
	}
	switch {
	case gen < k.Newest:
		if newest == nil {
			next = k.First
		}
		// How many entries it got after Last, nobody knows.
		out = append(out, Damage{File: segmentName(k.Begins, k.Newest), First: next, Last: max(k.Last, next-1), Certain: true, Err: ErrMissing})
	case newest != nil && k.Last >= next:
		out = append(out, Damage{File: newest.name, Offset: end, First: next, Last: k.Last, Certain: true, Err: ErrCut})
	}
	return out
}

// reportNew has the owner make durable what is known with seg, which was just made and is
// not in the list yet. l.mu is held, or nobody else knows l.
func (l *Log) reportNew(seg *segment) error {
	if l.opt.Changed == nil {
		return nil
	}
	k := Known{First: seg.first, Oldest: seg.gen, Last: l.synced.Load(), Newest: seg.gen, Begins: seg.first, Unmarked: l.unmarked}
	if p := l.segments.Load(); p != nil && len(*p) > 0 && (*p)[0].first < seg.first {
		k.First, k.Oldest = (*p)[0].first, (*p)[0].gen
	}
	k.Dropping = slices.Clone(l.garbage)
	return l.opt.Changed(k, nil)
}
