package spool

import (
	"fmt"
	"math"
	"slices"
)

// Streams. Each Open begins one, for the records from then on, and the records of earlier
// ones keep theirs. In a stream an index never stands for two records: where records are
// lost with the power before they were synced, their indexes come again only in the stream
// of the next Open. So is it with a folder that was put back to an older state.

// Stream returns the ID of the stream that the record belongs to, and the first index behind
// those of it. Any goroutine may call it.
func (s *Spool) Stream(index uint64) (id StreamID, end uint64) {
	epochs := *s.epochs.Load()
	end = math.MaxUint64
	for i := len(epochs) - 1; i >= 0; i-- {
		if epochs[i].from <= index || i == 0 {
			return epochs[i].stream, end
		}
		end = epochs[i].from
	}
	return id, end
}

// Newest returns the index of the last record, 0 when there has been none.
func (s *Spool) Newest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Renew gives every record that waits to another stream, and those that come: a server says
// that it has records of the present one that were never sent. That is so where the
// whole machine was put back to an earlier state while it ran. What was sent before and not
// acknowledged may be stored twice then.
func (s *Spool) Renew() error {
	s.persisting.Lock()
	defer s.persisting.Unlock()
	epochs := slices.Clone(*s.epochs.Load())
	for i := range epochs {
		id, err := newStream()
		if err != nil {
			return err
		}
		epochs[i].stream = id
	}
	s.mu.Lock()
	c := s.content()
	s.mu.Unlock()
	c.epochs = pruneEpochs(epochs, c.acked)
	if err := s.state.write(c, true); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.noted.Store(c.acked)
	s.persisted.Store(c.acked)
	s.epochs.Store(&epochs)
	return nil
}

// Rewind takes acknowledgements back, from an index on, as far as the records are still there:
// a server that acknowledged them has lost them. It returns the first index that waits now.
// What was acknowledged is kept until its segment is full and all of it is.
func (s *Spool) Rewind(index uint64) (first uint64, err error) {
	s.persisting.Lock()
	defer s.persisting.Unlock()
	s.mu.Lock()
	first = max(index, s.log.First(), 1)
	if first > s.acked {
		first = s.acked + 1
		s.mu.Unlock()
		return first, nil
	}
	was := s.acked
	s.acked = first - 1
	c := s.content()
	s.mu.Unlock()
	if err := s.state.write(c, true); err != nil {
		s.mu.Lock()
		s.acked = max(s.acked, was)
		s.mu.Unlock()
		return was + 1, fmt.Errorf("spool: %w", err)
	}
	s.noted.Store(c.acked)
	s.persisted.Store(c.acked)
	s.ready.Set()
	return first, nil
}

// Stream is Spool's.
func (r *Reader) Stream(index uint64) (id [16]byte, end uint64) { return r.s.Stream(index) }

// Newest is Spool's.
func (r *Reader) Newest() uint64 { return r.s.Newest() }

// Rewind is Spool's.
func (r *Reader) Rewind(index uint64) (first uint64, err error) { return r.s.Rewind(index) }

// Renew is Spool's.
func (r *Reader) Renew() error { return r.s.Renew() }
