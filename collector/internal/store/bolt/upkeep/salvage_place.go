package upkeep

import (
	"context"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
)

// When the partition that was written last is lost, the store's place in the journal
// is that of an earlier partition, and the journal was trimmed to the place of the lost
// one. What lies between is in the lost partition, and missing until it is brought
// back: then the place moves on to where the journal begins. The next start takes the
// same records from the journal as it would have taken without that.

// begin finds out what the next start will take from the journal, and so where the
// place may move on to.
func (s *salvage) begin(ctx context.Context) (err error) {
	if s.state, err = s.st.State(ctx); err != nil {
		return err
	}
	old := journal.Place{LSN: s.state.LSN, Open: s.state.Open}
	first := uint64(0) // LSN of what was not carried
	var taken []uint64 // LSNs of what is taken, but for what follows the journal's first
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
	s.next = s.beyond(first, taken)
	return err
}

// beyond is the place once the wreck is brought back: as far as the wreck's own, not
// into what the journal has.
func (s *salvage) beyond(first uint64, taken []uint64) store.State {
	w, err := layout.DecodeState(s.wreck.State)
	if err != nil || w.ID == 0 || w.LSN < s.state.LSN {
		return *s.state
	}
	next := store.State{LSN: w.LSN}
	if first > 0 {
		next.LSN = max(s.state.LSN, min(w.LSN, first-1))
	}
	// What was open for the wreck, too, and is not in the journal is lost, and to be
	// said.
	for _, lsn := range slices.Concat(taken, w.Open) {
		if lsn <= next.LSN {
			next.Open = append(next.Open, lsn)
		}
	}
	slices.Sort(next.Open)
	next.Open = slices.Compact(next.Open)
	return next
}

// moveOn stores the place that the wreck brings.
func (s *salvage) moveOn(ctx context.Context) error {
	if s.next.LSN == s.state.LSN && slices.Equal(s.next.Open, s.state.Open) {
		return nil
	}
	s.state.LSN, s.state.Open = s.next.LSN, s.next.Open
	return s.batch(ctx, store.NewTable(), nil)
}
