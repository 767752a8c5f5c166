package upkeep

import (
	"errors"
	"io/fs"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
)

// What the log has beside the groups of events: days' accounts of completeness, and the list of holds.

// counts compares the accounts of completeness of days that are over with what the log says of them.
func (s *sealed) counts() {
	last := map[string]int64{} // the newest leaf of a batch
	for i := range s.entries {
		if e := &s.entries[i]; e.kind == seal.Batch && !e.gone {
			last[e.part] = e.index
		}
	}
	none := 0
	for _, f := range s.files.Partitions {
		name := f.Part.String()
		a, rows := s.accounts[name], s.rows[name]
		switch {
		case rows == nil: // said already
		case rows.Rows == 0 && s.made[name] != nil && s.made[name].mark.Parts[0] != f.Part: // another has them
		case a == nil, last[name] > a.index:
			none++
		case s.used && a.index >= s.settled: // the file may have been read before
		case rows.Rows != a.groups || rows.Sum() != a.hash:
			s.changed("partition %s: what it has of its hosts' completeness (coverage) was changed since the day was over: %d rows were sealed, %d are there", name, a.groups, rows.Rows)
		}
	}
	for _, part := range slices.Sorted(maps.Keys(s.made)) {
		s.movedAccount(part)
	}
	if none > 0 {
		s.notef("of %d partitions what they have of hosts' completeness (coverage) is not signed: of the day that is written, and of those before the log", none)
	}
}

// movedAccount compares the account of a partition that was written again, and that of the one which has it since.
func (s *sealed) movedAccount(part string) {
	w := s.again.maker(part, math.MaxInt64)
	if w == nil || len(w.Sources) != 1 || w.Made[0].Part != part || w.Flags&seal.Found != 0 {
		return
	}
	was, is := s.accounts[w.Sources[0].Part], s.accounts[part]
	if was != nil && was.index < w.index && is != nil && is.hash != was.hash {
		s.changed("partition %s: what it has of its hosts' completeness (coverage) is not what partition %s had, of which it was made: %d rows, and they were %d", part, was.part, is.groups, was.groups)
	}
}

// held compares the list of holds with what the log says of its changes.
func (s *sealed) held() {
	var last *entry
	for _, e := range s.holds {
		if last != nil && e.before != last.hash && e.hash != last.hash {
			s.changed("the list of holds was changed by hand between its change %d, of %s, and %d, of %s", last.first, when(last.at), e.first, when(e.at))
		}
		unsigned := ""
		if !s.signed(e.index) {
			unsigned = ", says the log, and no checkpoint has signed that"
		}
		s.notef("holds were changed on %s%s (change %d, %d holds): %s", when(e.at), unsigned, e.first, e.groups, e.why)
		last = e
	}
	is, n, err := hold.Read(s.o.Dir)
	for range 5 { // a running collector writes the list, and then the log
		if !s.used || err != nil || last != nil && is.Hash == last.hash && is.Generation == last.first {
			break
		}
		time.Sleep(500 * time.Millisecond)
		last = s.lastHolds(last)
		is, n, err = hold.Read(s.o.Dir)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && last == nil:
	case errors.Is(err, fs.ErrNotExist):
		s.changed("the list of holds, %s, is gone: it had %d holds on %s", hold.Name, last.groups, when(last.at))
	case err != nil && last != nil:
		s.changed("the list of holds, %s, cannot be read: %v", hold.Name, err)
	case err != nil:
		s.notef("the list of holds, %s, cannot be read: %v", hold.Name, err)
	case last == nil && is.Generation > 0:
		s.notef("the list of holds is not sealed: no collector that does it has had the store since")
	case last == nil || is.Hash == last.hash && is.Generation == last.first:
	default:
		s.changed("the list of holds is not that of its last change in the log, change %d on %s with %d holds: it has %d, and says change %d; it was changed by hand, or the collector was killed as it was changed", last.first, when(last.at), last.groups, n, is.Generation)
	}
}

// lastHolds reads the log again for the last change of holds; was is the one that is known.
func (s *sealed) lastHolds(was *entry) *entry {
	_, _, err := seal.Scan(s.o.Dir, func(x *seal.Scanned) error {
		if l, err := seal.ParseLeaf(x.Text); err == nil && l.Kind == seal.Holds && (was == nil || x.Index > was.index) {
			was = &entry{index: x.Index, kind: l.Kind, at: l.At, first: l.First, groups: l.Groups, hash: l.Hash, before: l.EventsRoot, why: l.Why}
		}
		return nil
	})
	if err != nil {
		s.notef("the log cannot be read again: %v", err)
	}
	return was
}
