package logscan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// ReadComplete reads logs that grow for a caller who comes again. It calls fn with each
// event that is complete, in the order in which ausearch prints them, and then open with
// each that is not, the oldest first. ended says that an event has its last record: it only
// waits for others, or for a younger one.
//
// A reading that begins with the log of the number from, counted from 0, gives what comes
// after the last event that fn got in the same way as this one does, and so does a reading
// of logs that have grown. An event is valid during the call only. If fn returns ErrStop,
// no more is read, and open gets what was read and not given to fn.
func (l *Logs) ReadComplete(ctx context.Context, cfg ReadConfig, fn func(*event.Event) error, open func(ev *event.Event, ended bool) error) (from int, err error) {
	var ev event.Event
	var same sameFrom
	o := newOrder(cfg.timeoutSec(), maxWaiting, nil)
	o.emit = func(p *pending) error {
		same.emitted(o, p)
		parsePieces(&ev, p.pieces)
		return fn(&ev)
	}
	m := merge{cfg: cfg, order: o}
	for i, log := range l.readers {
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("search: %w", err)
		}
		same.begins(o, i)
		src := sourceOf(log, chunkBytes)
		if f, ok := src.(*fileSource); ok && cfg.Growing && i == len(l.readers)-1 {
			if f.end, err = wholeLines(f.f, f.end); err != nil {
				return 0, err
			}
		}
		if err = m.readAll(src); errors.Is(err, query.ErrStop) {
			break
		} else if err != nil {
			return 0, err
		}
	}
	ended := map[*pending]bool{}
	o.waiting.each(func(p *pending) { ended[p] = p.complete })
	o.emit = func(p *pending) error {
		parsePieces(&ev, p.pieces)
		return open(&ev, ended[p] || ev.Ended())
	}
	return same.from, stopped(o.flush())
}

// sameFrom finds the log from which on a reading gives the same events in the same order as
// one that began with an earlier log. That is not always the log that an event is in: an
// event that began in the log before may hold younger ones up, and some of its records may
// be the first ones of this log. So first the events that are waiting when the log begins
// have to go out, and then those that are waiting at that moment.
type sameFrom struct {
	from  int
	log   int    // that may become from
	step  int    // of the two above; 2 when both are done
	upTo  uint64 // the step waits for events that were begun up to this one
	count int    // and so many of them have not gone out
}

func (s *sameFrom) begins(o *order, log int) {
	s.log, s.step = log, 0
	s.wait(o)
}

// wait begins a step, and the next one where there is nothing to wait for.
func (s *sameFrom) wait(o *order) {
	for s.step < 2 {
		s.upTo, s.count = o.begun, o.waiting.len()
		if s.count > 0 {
			return
		}
		s.step++
	}
}

// emitted is told of each event that goes out, before its log counts for it.
func (s *sameFrom) emitted(o *order, p *pending) {
	if s.step == 2 {
		s.from = s.log
		return
	}
	if p.nth > s.upTo {
		return
	}
	if s.count--; s.count == 0 {
		s.step++
		s.wait(o)
	}
}

// wholeLines returns where the last line of a file of that size ends that has a newline.
func wholeLines(f io.ReaderAt, size int64) (int64, error) {
	var buf []byte
	for end := size; end > 0; {
		from := max(0, end-4<<10)
		var err error
		if buf, err = readTo(f, buf[:0], from, int(end-from)); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf, '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return 0, nil
}

// readAll reads a log into an order.
func (m *merge) readAll(src source) error {
	ix := indexer{cfg: m.cfg, filter: newPrefilter(nil)}
	var pool chunkPool
	for {
		c := pool.get()
		c.retain()
		err := src.next(context.Background(), c)
		if err == nil && c.fill != nil {
			err = c.fill(c)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		ix.index(c)
		if err := m.add(c); err != nil {
			return err
		}
	}
}

// Len returns how many logs there are.
func (l *Logs) Len() int { return len(l.readers) }

// File returns the open file of a log by its number, or nil for standard input. It may be
// asked about; its place must not be moved before the logs were read.
func (l *Logs) File(log int) *os.File {
	if log < len(l.files) && len(l.files) == len(l.readers) {
		return l.files[log]
	}
	return nil
}

// From returns the logs from the one of a number on, which must not be standard input, to be
// read again from their beginning. They share their files with l, which is no longer to be
// read and must be closed after them.
func (l *Logs) From(log int) (*Logs, error) {
	again := &Logs{}
	for _, f := range l.files[log:] {
		_, err := f.Seek(0, io.SeekStart)
		var r io.Reader
		if err == nil {
			r, err = unpacked(f)
		}
		if err != nil {
			again.Close()
			return nil, notOpened(f.Name(), err)
		}
		again.readers = append(again.readers, r)
	}
	return again, nil
}

// FirstLine returns the first line of a log, with its newline, unpacked where it is
// compressed; nil when there is no whole line yet. It moves the file's place.
func FirstLine(f *os.File) ([]byte, error) {
	logs, err := (&Logs{files: []*os.File{f}}).From(0)
	if err != nil {
		return nil, err
	}
	defer logs.Close()
	r := logs.readers[0]
	buf := make([]byte, 0, maxLine)
	for len(buf) < cap(buf) {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if i := bytes.IndexByte(buf, '\n'); i >= 0 {
			return buf[:i+1], nil
		}
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read log: %w", err)
		}
	}
	return buf, nil
}
