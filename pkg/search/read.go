package search

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// ReadConfig is how a log is read.
type ReadConfig struct {
	// StartMs and EndMs are those of the query: records outside are dropped
	// before they are put together. 0 is open.
	StartMs, EndMs int64
	// EOETimeout is how much younger a record must be to end an event; 0 is 2 s.
	EOETimeout time.Duration
	// Skipped, if set, is told of each line that is no record with a time, and
	// why. The line is valid during the call only.
	Skipped func(line []byte, err error)
}

const (
	chunkBytes = 1 << 20
	// maxLine is how much of a line the stock tool takes for a record.
	maxLine = record.MaxLength - 1
	// maxWaiting bounds what is held of a log whose events never complete, such
	// as one that was written backwards.
	maxWaiting = 256 << 20
)

// errTooLong is why the rest of an overlong line is skipped.
var errTooLong = fmt.Errorf("search: line is longer than %d bytes, the rest is left out", maxLine)

// Read returns the events of one or more logs that continue each other, in the
// order ausearch prints them. It reads each once, in pieces.
func Read(cfg ReadConfig, logs ...io.Reader) Events {
	return func(yield func(*event.Event, error) bool) {
		timeout := int64(cfg.EOETimeout / time.Second)
		if timeout <= 0 {
			timeout = 2
		}
		o := newOrder(timeout, maxWaiting, func(ev *event.Event) error {
			if !yield(ev, nil) {
				return ErrStop
			}
			return nil
		})
		rd := reader{cfg: cfg, order: o}
		for _, log := range logs {
			if err := rd.read(log); err != nil {
				if !errors.Is(err, ErrStop) {
					yield(nil, err)
				}
				return
			}
		}
		_ = o.flush() // only ErrStop
	}
}

// waiter is a log that may have nothing for a while, such as a pipe.
type waiter interface {
	// wait reports whether there is something to read, or the end, within d.
	wait(d time.Duration) (bool, error)
}

// idle is how long a pipe may be silent before open events are shown.
const idle = 3 * time.Second

type reader struct {
	cfg   ReadConfig
	order *order
	rec   record.Record
}

// read takes one log apart into lines. Events keep slices of its pieces, so each
// piece is its own memory, freed when the last of its events is out.
func (rd *reader) read(log io.Reader) error {
	chunk, used := make([]byte, chunkBytes), 0
	skipping := false // within the rest of an overlong line
	for {
		if err := rd.await(log); err != nil {
			return err
		}
		n, err := log.Read(chunk[used:])
		data := chunk[:used+n]
		start := 0
		for {
			i := bytes.IndexByte(data[max(start, used):], '\n')
			if i < 0 {
				break
			}
			end := max(start, used) + i
			if !skipping {
				if err := rd.line(data[start:end:end]); err != nil {
					return err
				}
			}
			start, skipping = end+1, false
			used = start
		}
		rest := data[start:]
		if errors.Is(err, io.EOF) {
			if len(rest) > 0 && !skipping {
				return rd.line(rest[:len(rest):len(rest)])
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		if skipping {
			rest = nil
		}
		if len(rest) > maxLine {
			if err := rd.line(rest[:len(rest):len(rest)]); err != nil {
				return err
			}
			rest, skipping = nil, true
		}
		// What is behind data in the chunk was given to nobody.
		if len(chunk)-len(data) >= chunkBytes/4 && len(rest) > 0 {
			chunk, used = chunk[start:], len(rest)
		} else if len(chunk)-len(data) >= chunkBytes/4 {
			chunk, used = chunk[len(data):], 0
		} else {
			next := make([]byte, chunkBytes)
			used = copy(next, rest)
			chunk = next
		}
	}
}

// await flushes the open events while a pipe is silent.
func (rd *reader) await(log io.Reader) error {
	w, ok := log.(waiter)
	if !ok {
		return nil
	}
	for {
		ready, err := w.wait(idle)
		if err != nil {
			return fmt.Errorf("wait for log: %w", err)
		}
		if ready {
			return nil
		}
		if err := rd.order.flush(); err != nil {
			return err
		}
	}
}

func (rd *reader) line(line []byte) error {
	if len(line) > maxLine {
		rd.skipped(line[maxLine:], errTooLong)
		line = line[:maxLine:maxLine]
	}
	r := &rd.rec
	if err := r.Parse(line); err != nil && !salvage(r) {
		rd.skipped(line, err)
		return nil
	}
	if ms := r.Ms(); rd.cfg.StartMs != 0 && ms < rd.cfg.StartMs || rd.cfg.EndMs != 0 && ms > rd.cfg.EndMs {
		return nil
	}
	return rd.order.add(r)
}

func (rd *reader) skipped(line []byte, err error) {
	if rd.cfg.Skipped != nil && len(line) > 0 {
		rd.cfg.Skipped(line, err)
	}
}

// salvage makes what it can of a damaged record: with a second it has a place
// in time, so it is an event like any other.
func salvage(r *record.Record) bool {
	if r.Sec != 0 {
		return true
	}
	i := bytes.Index(r.Raw, []byte("msg=audit("))
	if i < 0 {
		return false
	}
	sec, ok := decimalOf(r.Raw[i+len("msg=audit("):])
	if !ok || sec <= 0 || sec > maxSeconds {
		return false
	}
	r.Sec = sec
	return true
}

const maxSeconds = 1e12
