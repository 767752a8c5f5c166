package lines

import "context"

// reader cuts what is read into records and hands on chunks of them. Its owner calls
// acquire, reads into room, and says with filled how much that was. Two chunks take turns:
// one is filled while the consumer has the other.
type reader struct {
	split splitter
	out   chan<- *Chunk
	free  chan *Chunk
	cur   *Chunk
}

func newReader(out chan<- *Chunk, bad func(offset int64, why string)) *reader {
	r := &reader{out: out, free: make(chan *Chunk, 2), split: splitter{bad: bad}}
	for range cap(r.free) {
		r.free <- &Chunk{data: make([]byte, chunkSize)}
	}
	return r
}

// acquire waits for a chunk to be filled, where none is at hand.
func (r *reader) acquire(ctx context.Context) error {
	if r.cur != nil {
		return nil
	}
	select {
	case r.cur = <-r.free:
		r.cur.n = 0
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// room is where the next bytes of the source go, after acquire.
func (r *reader) room() []byte { return r.cur.data[r.cur.n:] }

// filled says that n bytes were put there, or that the source has ended, and
// hands on the records that are whole. pos is where the source's file then is.
func (r *reader) filled(ctx context.Context, n int, atEnd bool, pos Position) error {
	c := r.cur
	c.n += n
	used, err := r.split.split(c, atEnd)
	if err != nil {
		return err
	}
	rest := c.n - used
	if c.Len() == 0 {
		copy(c.data, c.data[used:c.n])
		c.n = rest
		return nil
	}
	c.At = pos
	c.At.offset -= int64(rest)
	r.cur = nil
	// The unfinished record moves to the next chunk before this one is given away.
	if err := r.acquire(ctx); err != nil {
		return err
	}
	r.cur.n = copy(r.cur.data, c.data[used:c.n])
	select {
	case r.out <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
