package logscan

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// A scanner reads logs in chunks. feed sends each chunk to two channels: todo, from which
// n indexers take chunks, read them, split them into lines and runs and search them for
// the query's conditions; and ordered, which keeps the order of the log. The goroutine of
// run takes the chunks from ordered, waits until each is indexed, merges its runs into
// events in order, and emits batches of the events that may match.
//
// The capacity of ordered bounds the chunks between feed and merge, so reading cannot run
// ahead of a slow receiver.
type scanner struct {
	logs   []io.Reader
	cfg    ReadConfig
	filter *prefilter
	n      int          // goroutines that index
	text   func([]byte) // Config.Text
	chunk  int          // bytes; 0 is chunkBytes
	pinned int          // see merge

	pool chunkPool
}

// chunksAhead is how many chunks for each indexer may wait for the merge.
const chunksAhead = 2

// run is the produce of inOrder.
func (s *scanner) run(ctx context.Context, emit func(*batch) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	todo, ordered := make(chan *chunk, s.n), make(chan *chunk, chunksAhead*s.n)
	var fed error // valid when ordered is closed
	wg.Go(func() {
		defer close(ordered)
		defer close(todo)
		fed = s.feed(ctx, todo, ordered)
	})
	for range s.n {
		wg.Go(func() {
			ix := indexer{cfg: s.cfg, filter: s.filter}
			for c := range todo {
				if c.fill != nil {
					c.err = c.fill(c)
				}
				if c.err == nil {
					ix.index(c)
					if s.text != nil {
						s.text(c.data)
					}
				}
				close(c.ready)
			}
		})
	}
	b := &batcher{need: s.filter.need, emit: emit}
	m := merge{cfg: s.cfg, pinned: s.pinned, order: newOrder(s.cfg.timeoutSec(), maxWaiting, b.add)}
	for c := range ordered {
		<-c.ready
		if c.err != nil {
			return c.err
		}
		if err := m.add(c); err != nil {
			return err
		}
		if err := b.send(); err != nil {
			return err
		}
	}
	if fed != nil {
		return fed
	}
	if err := m.order.flush(); err != nil {
		return err
	}
	return b.send()
}

// feed hands out the chunks of all logs.
func (s *scanner) feed(ctx context.Context, todo, ordered chan<- *chunk) error {
	size := s.chunk
	if size == 0 {
		size = chunkBytes
	}
	for _, log := range s.logs {
		src := sourceOf(log, size)
		for {
			c := s.pool.get()
			c.retain() // the merge's
			c.ready = make(chan struct{})
			err := src.next(ctx, c)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			select {
			case ordered <- c:
			case <-ctx.Done():
				return ctx.Err()
			}
			todo <- c // an indexer always comes
		}
	}
	return nil
}

const (
	batchLines = 2048
	batchBytes = 256 << 10
)

// batcher collects the events that order emits into batches. An event without all
// conditions of need is dropped unparsed.
type batcher struct {
	need hits
	emit func(*batch) error
	now  *batch
}

func (b *batcher) add(p *pending) error {
	if p.hits&b.need != b.need {
		return nil
	}
	if b.now == nil {
		b.now = &batch{}
	}
	b.now.add(p)
	if b.now.bytes < batchBytes && b.now.lines < batchLines {
		return nil
	}
	return b.send()
}

func (b *batcher) send() error {
	now := b.now
	if b.now = nil; now == nil {
		return nil
	}
	return b.emit(now)
}

// batch is a sequence of consecutive events for one worker. It consists of pieces of
// chunks and holds a reference to each of these chunks; done releases them. Its events
// are parsed from the chunks' memory and must not be used after done.
type batch struct {
	pieces       []piece
	ends         []uint32 // of each event's pieces
	chunks       []*chunk
	lines, bytes int
}

func (b *batch) add(p *pending) {
	for _, pc := range p.pieces {
		b.lines += int(pc.n)
		if n := len(b.chunks); n == 0 || b.chunks[n-1] != pc.c {
			pc.c.retain()
			b.chunks = append(b.chunks, pc.c)
		}
	}
	b.bytes += p.bytes
	b.pieces = append(b.pieces, p.pieces...)
	b.ends = append(b.ends, uint32(len(b.pieces)))
}

// events calls fn with each; an event is valid during the call only.
func (b *batch) events(fn func(*event.Event) error) error {
	var ev event.Event
	from := uint32(0)
	for _, end := range b.ends {
		parsePieces(&ev, b.pieces[from:end])
		if err := fn(&ev); err != nil {
			return err
		}
		from = end
	}
	return nil
}

// done lets go of what the events are made of.
func (b *batch) done() {
	for _, c := range b.chunks {
		c.release()
	}
}
