package spool

import (
	"cmp"
	"errors"
	"io"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// markSearch is how many of the last records are searched for a mark. The last
// record has it, unless a crash tore its batch.
const markSearch = 65536

// Mark is the last mark: of the last Append, or after Open, of the records
// that are there. nil: there is none, or none that can be relied on.
func (s *Spool) Mark() []byte {
	s.appending.Lock()
	defer s.appending.Unlock()
	if len(s.mark) == 0 {
		return nil
	}
	return append([]byte(nil), s.mark...)
}

// AfterMark are the records found behind the mark at Open: the first part of a
// batch whose write a crash cut short, so that its mark is missing. A source that
// goes on from the mark gives them again, and must leave them out, those that are
// the same. They are forgotten by the next Append.
func (s *Spool) AfterMark() [][]byte {
	s.appending.Lock()
	defer s.appending.Unlock()
	return s.behind
}

// span is a range of lost entries.
type span struct{ from, to uint64 }

// recoverMark finds the mark after Open: the last one, or when something is lost
// that wasn't acknowledged and that the source may still have, the last one before
// that. Then it writes an entry that says so, durably: the source goes on from
// there, and what is lost needs no second look.
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
		s.mark, s.behind, err = lastMark(s.log, s.last)
		return err
	}
	from := slices.MinFunc(lost, func(a, b span) int { return cmp.Compare(a.from, b.from) }).from
	settled := uint64(0) // the last entry that settles what was lost before it
	err := walk(s.log, from, s.last, func(index uint64, e []byte) {
		if e[0] == resetEntry {
			settled = index
		}
	})
	if err != nil {
		return err
	}
	last := s.last
	for _, x := range lost {
		if x.to > settled {
			last = min(last, x.from-1)
		}
	}
	if s.mark, _, err = lastMark(s.log, last); err != nil || last == s.last {
		return err
	}
	s.entries = append(s.entries[:0], appendReset(nil, s.opt.Now().UnixMilli(), s.mark))
	if err := s.write(); err != nil {
		if !errors.Is(err, ErrFull) {
			return err
		}
		// No room for it: another crash before there is some comes to the same.
		s.hlg.Warn("note the loss in the spool", "error", err)
		return nil
	}
	return s.log.Sync()
}

// lastMark is the mark of the last record up to last that has one, and the records
// behind that one.
func lastMark(log *seglog.Log, last uint64) (mark []byte, behind [][]byte, err error) {
	keep := func(_ uint64, e []byte) {
		_, m, line, err := parseEntry(e)
		switch {
		case err == nil && m != nil || e[0] == resetEntry:
			mark, behind = append(mark[:0], m...), behind[:0]
		case err == nil:
			behind = append(behind, append([]byte(nil), line...))
		}
	}
	// Nearly always it is in the last record.
	for _, from := range []uint64{last, max(last, markSearch) - markSearch + 1} {
		behind = behind[:0]
		if err = walk(log, from, last, keep); len(mark) > 0 || err != nil {
			return mark, behind, err
		}
	}
	return nil, behind, nil
}

// walk calls visit for the entries from from to last that are there.
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
