package upkeep

import (
	"context"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
)

// When the partition that was written last is lost, the store's place in the journal is that
// of an earlier partition, while the journal was trimmed up to the place of the lost one.
// The records between are in the lost partition only. Once it is brought back, the place
// moves on to where the journal begins, so that nothing seems to be missing between. That
// changes nothing in what the next start takes from the journal.

// readJournal reads the journal for what the next start will take from it: those records count as
// there already, and bound how far the place may move on.
func (s *salvage) readJournal(ctx context.Context) (err error) {
	if s.state, err = s.st.State(ctx); err != nil {
		return err
	}
	old := journal.Place{LSN: s.state.LSN, Open: s.state.Open}
	first := uint64(0) // LSN of the first record that was not carried
	var taken []uint64 // LSNs of records that are taken: those that were open, and carried ones
	_, err = journal.ReadOnly(s.journalOptions(), old, func(b *journal.Batch) error {
		if first == 0 && !b.Carried {
			first = b.First
		}
		for i := range b.Records {
			lsn := b.First + uint64(i)
			_, open := slices.BinarySearch(old.Open, lsn)
			if lsn <= old.LSN && !open {
				continue
			}
			s.tail[keyOf([]byte(hostOf(b, b.Records[i].Raw)), b.Records[i].Raw)]++
			if open || b.Carried {
				taken = append(taken, lsn)
			}
		}
		return ctx.Err()
	})
	s.next = s.placeAfter(first, taken)
	return err
}

// placeAfter returns the place once the wreck is brought back: the wreck's own, but not beyond
// the first record that the journal still has. Records that the next start takes stay open
// in it.
func (s *salvage) placeAfter(first uint64, taken []uint64) store.State {
	w, err := layout.DecodeState(s.wreck.State)
	if err != nil || w.ID == 0 || w.LSN < s.state.LSN {
		return *s.state
	}
	next := store.State{LSN: w.LSN}
	if first > 0 {
		next.LSN = max(s.state.LSN, min(w.LSN, first-1))
	}
	// What was open for the wreck stays open, too: of it, what is not in the journal is
	// lost, and verify is to report that.
	for _, lsn := range slices.Concat(taken, w.Open) {
		if lsn <= next.LSN {
			next.Open = append(next.Open, lsn)
		}
	}
	slices.Sort(next.Open)
	next.Open = slices.Compact(next.Open)
	return next
}

// moveOn stores the place that readJournal found, where it is another one than the present.
func (s *salvage) moveOn(ctx context.Context) error {
	if s.next.LSN == s.state.LSN && slices.Equal(s.next.Open, s.state.Open) {
		return nil
	}
	s.state.LSN, s.state.Open = s.next.LSN, s.next.Open
	return s.batch(ctx, store.NewTable(), nil)
}
