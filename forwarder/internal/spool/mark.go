package spool

import (
	"cmp"
	"errors"
	"io"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// markSearch is how many of the last records Open searches for a mark. The last record
// has one, unless a crash cut its batch short.
const markSearch = 65536

// Mark returns a copy of the last mark: that of the last Append, or after Open, the one
// from which the source must go on. nil: there is none, or none that can be relied on.
func (s *Spool) Mark() []byte {
	s.appending.Lock()
	defer s.appending.Unlock()
	if len(s.mark) == 0 {
		return nil
	}
	return append([]byte(nil), s.mark...)
}

// AfterMark returns the records that Open found behind the mark: the first part of a
// batch whose write a crash cut short, so that its mark is missing. A source that goes on
// from the mark reads them again and must not append those that are the same. The next
// Append makes AfterMark return nil; the caller must not change the slices.
func (s *Spool) AfterMark() [][]byte {
	s.appending.Lock()
	defer s.appending.Unlock()
	return s.behind
}

// marks says which marks are in the log, by the indexes of their records; 0: none. Only those that are durable are sure
// to be there after a power cut, and the last of them must be, for the source goes on from it: the records behind it
// may be acknowledged, and come back from the disk, without a mark of their own.
type marks struct {
	durable uint64 // this one is
	next    uint64 // this one may not be: it is durable once the log is synced up to it
	newest  uint64
}

// add notes that the record at index has a mark, in a log that is synced up to synced.
func (m *marks) add(index, synced uint64) {
	m.advance(synced)
	m.newest = index
	if m.next == 0 {
		m.next = index
	}
}

// advance notes that the log is synced up to synced. It goes from next to newest and not to all marks between, of which
// there may be many: so durable is not always the last that is, but never stays behind for more than two syncs.
func (m *marks) advance(synced uint64) {
	for m.next != 0 && m.next <= synced {
		m.durable = m.next
		if m.next = m.newest; m.durable == m.newest {
			m.next = 0
		}
	}
}

// marked notes that the last record has s.mark. The caller holds appending, or is the only one to know s.
func (s *Spool) marked() {
	if len(s.mark) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks.add(s.last, s.log.Synced())
}

// held returns up to which index, exclusive, the log may be freed: the record there stays, and all behind it. That is
// the last durable mark, or where the log has no marks, its last record.
func (s *Spool) held() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks.advance(s.log.Synced())
	if s.marks.durable != 0 {
		return s.marks.durable
	}
	return s.log.Last()
}

// releaseMark lets go of the segment of the last durable mark, where that is the oldest and a full spool needs its
// room: a later mark is made durable. After a crash there may be none yet; then the source might be read again from its
// beginning after the next one, and that is better than a spool which stays full. It reports whether it let go.
// The caller holds appending.
func (s *Spool) releaseMark() bool {
	b, before := s.log.Boundary(), s.held()
	if b == 0 || b > s.log.Last() || b <= before {
		return false
	}
	if err := s.syncLog(); err == nil && s.held() > before {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks.durable = 0
	return true
}

// span is a range of lost entries, both ends included.
type span struct{ from, to uint64 }

// recoverMark finds the mark from which the source must go on after Open. That is the last
// mark; but when records were lost that were not acknowledged, and that the source may
// still have, it is the last mark before the loss. Then recoverMark durably appends a
// reset entry with that mark, which settles the loss: the next Open does not go back to
// it again, though the log still reports it.
func (s *Spool) recoverMark(rec *seglog.Recovery) error {
	var lost []span
	for _, d := range rec.Damaged {
		lost = append(lost, span{d.First, d.Last})
	}
	for _, u := range rec.Unsynced {
		lost = append(lost, span{u.First, u.Last})
	}
	for _, g := range rec.Gaps {
		lost = append(lost, span{g.First, g.Last})
	}
	lost = slices.DeleteFunc(lost, func(x span) bool { return x.from > x.to || x.to <= s.acked })
	if len(lost) == 0 {
		var err error
		s.mark, s.behind, s.marks.durable, err = lastMark(s.log, s.last)
		return err
	}
	from := slices.MinFunc(lost, func(a, b span) int { return cmp.Compare(a.from, b.from) }).from
	settled := uint64(0)       // the last entry that settles what was lost before it
	var resets, marks []uint64 // reset entries, and what has a mark
	err := walk(s.log, from, s.last, func(index uint64, e []byte) {
		if e[0] == resetEntry {
			settled = index
			resets = append(resets, index)
		}
		if _, m, _, err := parseEntry(e); err == nil && len(m) > 0 {
			marks = append(marks, index)
		}
	})
	if err != nil {
		return err
	}
	end := s.last + 1
	defer func() { s.passOver(rec, resets, marks, end) }()
	// When the last entry is the reset entry of that loss, the source has not gone on yet: it is told once more.
	told, since := settled == s.last && !slices.ContainsFunc(lost, func(x span) bool { return x.to > settled }), settled
	if told {
		since = 0
		if len(resets) > 1 {
			since = resets[len(resets)-2]
		}
	}
	last := s.last
	for _, x := range lost {
		if x.to > since {
			last = min(last, x.from-1)
		}
	}
	if s.mark, s.behind, s.marks.durable, err = lastMark(s.log, last); err != nil || last == s.last || told {
		return err
	}
	s.entries = append(s.entries[:0], appendReset(nil, s.opt.Now().UnixMilli(), s.mark))
	if err := s.write(true); err != nil {
		if !errors.Is(err, ErrFull) {
			return err
		}
		// No room for it: another crash before there is some comes to the same.
		s.hlg.Warn("note the loss in the spool", "error", err)
		return nil
	}
	s.marked()
	return s.log.Sync()
}

// passOver has Readers pass over what a power loss has left behind a hole, up to the reset entry that settles it, or to
// end, where the log ended then: a source with marks reads all of it again. None of it was sent, for none of
// it was synced (see sendable). Every Open comes to the same: it goes by what lies before the reset entry, and by that.
func (s *Spool) passOver(rec *seglog.Recovery, resets, marks []uint64, end uint64) {
	for _, hole := range unsyncedHoles(rec) {
		if hole.to <= s.acked {
			continue
		}
		to, again := end, len(s.mark) > 0
		if i, _ := slices.BinarySearch(resets, hole.to); i < len(resets) {
			to, again = resets[i], false
		}
		i, _ := slices.BinarySearch(marks, hole.to)
		if again || i < len(marks) && marks[i] <= to {
			s.over = append(s.over, span{hole.to + 1, to - 1})
		}
	}
}

// lastMark returns the mark of the last record up to last that has one, its index, 0 where none has, and copies of the
// records behind that record.
func lastMark(log *seglog.Log, last uint64) (mark []byte, behind [][]byte, at uint64, err error) {
	keep := func(index uint64, e []byte) {
		_, m, line, err := parseEntry(e)
		switch {
		case err == nil && m != nil || e[0] == resetEntry:
			mark, behind, at = append(mark[:0], m...), behind[:0], index
		case err == nil:
			behind = append(behind, append([]byte(nil), line...))
		}
	}
	// Nearly always it is in the last record.
	for _, from := range []uint64{last, max(last, markSearch) - markSearch + 1} {
		behind = behind[:0]
		if err = walk(log, from, last, keep); len(mark) > 0 || err != nil {
			return mark, behind, at, err
		}
	}
	return nil, behind, 0, nil
}

// walk calls visit for each readable, non-empty entry from from to last. e is valid only
// during the call.
func walk(log *seglog.Log, from, last uint64, visit func(index uint64, e []byte)) error {
	if from = max(from, log.First()); from > last {
		return nil
	}
	r, err := log.Reader(from)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // only read
	for {
		index, e, err := r.Next()
		var damage *seglog.CorruptError
		switch {
		case errors.As(err, &damage):
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case index > last:
			return nil
		}
		if len(e) > 0 {
			visit(index, e)
		}
		if index == last {
			return nil
		}
	}
}
