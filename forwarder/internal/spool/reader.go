package spool

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Reader is a cursor over the records that are not acknowledged. It reads the newest from
// memory and older ones from the segments. A Spool may have one Reader in use at a time,
// by one goroutine (they share the signal Ready); other goroutines may call Ack, First
// and Left.
//
// A Reader holds no lock between calls. batch refers to entries whose bytes never
// change, so it stays valid when Ack or Append remove them from the hot tail; Next may
// then return a record that was acknowledged or dropped a moment ago, at most batchSize.
type Reader struct {
	s     *Spool
	next  uint64         // index of the next record
	batch [][]byte       // entries from next on, from the hot tail
	cold  *seglog.Reader // reads segments; nil while records come from memory
}

// Reader returns a cursor at the first record that is not acknowledged. The caller closes it.
func (s *Spool) Reader() *Reader { return &Reader{s: s, next: s.First()} }

// batchSize is how many entries a Reader copies from the hot tail, beside the one it
// returns, while it holds the lock once.
const batchSize = 64

// Next returns the next record: its index, its sequence id on the wire and its line
// without newline, valid until the next call of Next, Seek or Close. It never waits for a
// record: io.EOF says that there is none now, and Ready or Wait when there may be.
// Next passes over records that were dropped or damaged, and counts the damaged ones.
func (r *Reader) Next() (index uint64, seq uint32, line []byte, err error) {
	for {
		entry, err := r.entry()
		if err != nil {
			return 0, 0, nil, err
		}
		index = r.next
		r.next++
		if _, _, line, err = parseEntry(entry); err != nil {
			// Its checksum is right: written by a newer program, or not by us.
			r.s.missed(index, index)
			r.s.hlg.Error("spool record can't be read", "index", index, "error", err)
			continue
		}
		return index, r.s.Seq(index), line, nil
	}
}

// entry returns the entry with index r.next; it first moves r.next past records that are
// acknowledged, dropped or lost.
func (r *Reader) entry() ([]byte, error) {
	if len(r.batch) > 0 {
		e := r.batch[0]
		r.batch = r.batch[1:]
		return e, nil
	}
	for {
		s := r.s
		s.mu.Lock()
		r.next = max(r.next, s.acked+1)
		last := s.sendable(r.next)
		if r.next > last {
			s.mu.Unlock()
			r.closeCold()
			return nil, io.EOF
		}
		if e := s.hot.get(r.next); e != nil {
			from := s.hot.head + int(r.next-s.hot.first)
			more := int(min(last-r.next, batchSize-1))
			r.batch = append(r.batch[:0], s.hot.list[from+1:min(from+1+more, len(s.hot.list))]...)
			s.mu.Unlock()
			r.closeCold()
			return e, nil
		}
		s.mu.Unlock()
		e, err := r.stored(last)
		if err != nil || e != nil {
			return e, err
		}
	}
}

// sendable returns the last record that a Reader may return. Of a source that is read again after a crash it is the
// last one that is synced: a later one could be sent, and then lost with the power; read again it would
// have another sequence id, and the server had it twice. Where next waits for that, the syncer is told.
// The caller holds mu.
func (s *Spool) sendable(next uint64) uint64 {
	if !s.again {
		return s.last
	}
	last := min(s.last, s.log.Synced())
	if last < next && next <= s.last {
		s.wanted.Set()
	}
	return last
}

// stored reads entry r.next from its segment. last is an index that the log had already
// written. nil without an error means that r.next has moved, and the caller must try again.
func (r *Reader) stored(last uint64) ([]byte, error) {
	if r.cold == nil {
		cold, err := r.s.log.Reader(r.next)
		if errors.Is(err, seglog.ErrTruncated) {
			r.skipTo(r.s.log.First()) // the oldest were dropped
			return nil, nil
		}
		if err != nil {
			return nil, r.failed(err)
		}
		r.cold = cold
	}
	for {
		index, e, err := r.cold.Next()
		var damage *seglog.CorruptError
		switch {
		case errors.As(err, &damage):
			r.s.hlg.Error("spool is damaged", "error", damage)
			continue
		case errors.Is(err, seglog.ErrTruncated):
			r.skipTo(r.s.log.First())
			return nil, nil
		case errors.Is(err, io.EOF):
			r.s.missed(r.next, last)
			r.skipTo(last + 1) // everything up to the end was damaged
			return nil, nil
		case err != nil:
			return nil, r.failed(err)
		case index < r.next:
			continue
		}
		if index > r.next {
			r.s.missed(r.next, index-1)
		}
		r.next = index
		for _, x := range r.s.over {
			if x.from <= index && index <= x.to {
				r.next = x.to + 1
				return nil, nil
			}
		}
		return e, nil
	}
}

// skipTo moves the cursor to index, past records that no longer exist; never back.
func (r *Reader) skipTo(index uint64) {
	r.closeCold()
	r.next = max(r.next, index)
}

func (r *Reader) failed(err error) error {
	if errors.Is(err, seglog.ErrClosed) {
		return ErrClosed
	}
	return fmt.Errorf("read spool at %d: %w", r.next, err)
}

func (r *Reader) closeCold() {
	if r.cold != nil {
		_ = r.cold.Close() // only read
		r.cold = nil
	}
}

// Seek makes the next Next return the first record at or after index that is not
// acknowledged.
func (r *Reader) Seek(index uint64) {
	r.closeCold()
	r.batch = r.batch[:0]
	r.next = index
}

// Ready returns a channel that delivers a value when there may be records again after Next
// returned io.EOF. All Readers of a Spool share it.
func (r *Reader) Ready() <-chan struct{} { return r.s.ready }

// Wait waits until Next has a record to return, and returns nil; or ctx's error when ctx
// ends, ErrClosed when the spool is closed.
func (r *Reader) Wait(ctx context.Context) error {
	for {
		r.s.mu.Lock()
		next := max(r.next, r.s.acked+1)
		there := len(r.batch) > 0 || next <= r.s.sendable(next)
		r.s.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.s.stop:
			return ErrClosed
		case <-r.s.ready:
		}
	}
}

// Ack is Spool.Ack.
func (r *Reader) Ack(index uint64) error { return r.s.Ack(index) }

// First is Spool.First.
func (r *Reader) First() uint64 { return r.s.First() }

// Left is Spool.Left.
func (r *Reader) Left() uint64 { return r.s.Left() }

// Close closes the segment file that the cursor holds open. Records stay in the spool.
func (r *Reader) Close() { r.closeCold() }
