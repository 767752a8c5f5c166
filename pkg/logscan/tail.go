package logscan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// Follow implements query.Source. It reads what is written to the last of the logs until
// ctx ends, and continues with the new file when that log is renamed and a new one begun.
// Events are passed on as they become complete.
func (s *Source) Follow(ctx context.Context, q *query.Query, fn func(*event.Event) error, _ func(lost uint64) error) error {
	paths, err := s.Input.Files()
	if err != nil {
		return err
	}
	t := newTail(ctx, s.EOETimeout, q, q.Limited(fn))
	t.skipped, t.damaged, t.in = s.Skipped, s.Damaged, s.Input
	if paths[0] == Stdin {
		return stopped(t.pipe(s.Input.In))
	}
	return stopped(t.files(paths, q.StartMs != 0))
}

// pollEvery is the interval between two checks of a log for new data.
const pollEvery = 100 * time.Millisecond

// tail groups the lines of a growing log into events.
type tail struct {
	ctx     context.Context
	m       *query.Matcher
	q       *query.Query
	asm     *event.Assembler
	fn      func(*event.Event) error
	err     error // of fn
	skipped func(line []byte, err error)
	damaged func(err error)
	in      Input

	rest     []byte // a line whose end is not there yet
	skipping bool   // within the rest of an overlong line
}

func newTail(ctx context.Context, timeout time.Duration, q *query.Query, fn func(*event.Event) error) *tail {
	if timeout <= 0 {
		timeout = 2 * time.Second
	}
	t := &tail{ctx: ctx, m: query.NewMatcher(q), q: q, fn: fn}
	t.asm = event.NewAssembler(event.Config{Timeout: timeout, MaxBytes: maxWaiting}, func(ev *event.Event) {
		if t.err == nil && t.m.Match(ev) {
			t.err = t.fn(ev)
		}
	})
	return t
}

// read takes what there is of a log, up to its present end.
func (t *tail) read(r io.Reader) error {
	for {
		if err := t.ctx.Err(); err != nil {
			return err
		}
		// Events keep slices of what is read: each piece is its own memory.
		buf := make([]byte, streamPiece)
		n, err := r.Read(buf)
		now := time.Now()
		for data := buf[:n:n]; len(data) > 0; {
			line, after, whole := bytes.Cut(data, []byte{'\n'})
			data = after
			if !whole {
				t.part(line)
				break
			}
			t.line(line, now)
		}
		t.asm.Tick(now)
		switch {
		case t.err != nil:
			return t.err
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read log: %w", err)
		}
	}
}

const streamPiece = 64 << 10

// part keeps a line's beginning; what is too long is cut.
func (t *tail) part(text []byte) {
	if t.skipping {
		return
	}
	t.rest = append(t.rest[:len(t.rest):len(t.rest)], text...)
	if len(t.rest) > maxLine {
		t.line(nil, time.Now()) // the rest of it is skipped, which that said
		t.skipping = true
	}
}

func (t *tail) line(line []byte, now time.Time) {
	if t.skipping {
		t.skipping, t.rest = false, nil
		return
	}
	if len(t.rest) > 0 {
		line = append(t.rest[:len(t.rest):len(t.rest)], line...)
		t.rest = nil
	}
	if len(line) > maxLine {
		if t.skipped != nil {
			t.skipped(line[maxLine:min(len(line), maxLine+longRest)], errTooLong)
		}
		line = line[:maxLine:maxLine]
	}
	var r record.Record
	if err := r.Parse(line); !r.IsRecord() {
		if t.skipped != nil && len(line) > 0 {
			t.skipped(line, err)
		}
		return
	}
	if ms := r.Ms(); t.q.StartMs != 0 && ms < t.q.StartMs || t.q.EndMs != 0 && ms > t.q.EndMs {
		return
	}
	t.asm.Add(&r, 0, now)
}

// wait waits for more to come.
func (t *tail) wait() error {
	timer := time.NewTimer(pollEvery)
	defer timer.Stop()
	select {
	case now := <-timer.C:
		t.asm.Tick(now)
		return t.err
	case <-t.ctx.Done():
		return t.ctx.Err()
	}
}

// pipe reads a stream until it ends.
func (t *tail) pipe(in *os.File) error {
	type piece struct {
		data []byte
		err  error
	}
	pieces := make(chan piece)
	r, damage := UnpackStream(in, "stdin")
	go func() { // ends with the input, or the program: a read of a pipe cannot be taken back
		defer close(pieces)
		for {
			buf := make([]byte, streamPiece)
			n, err := r.Read(buf)
			select {
			case pieces <- piece{buf[:n], err}:
			case <-t.ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		select {
		case p := <-pieces:
			if err := t.read(bytes.NewReader(p.data)); err != nil {
				return err
			}
			if p.err != nil {
				t.asm.Flush()
				if t.err == nil && !errors.Is(p.err, io.EOF) {
					return fmt.Errorf("read log: %w", p.err)
				}
				if err := damage(); err != nil && t.damaged != nil { // the reader has ended
					t.damaged(err)
				}
				return t.err
			}
		case now := <-time.After(pollEvery):
			if t.asm.Tick(now); t.err != nil {
				return t.err
			}
		case <-t.ctx.Done():
			return t.ctx.Err()
		}
	}
}

// files reads logs that continue each other, the oldest first, and then what is
// written to the last one. Without all, it begins at that one's end.
func (t *tail) files(paths []string, all bool) error {
	path := paths[len(paths)-1]
	if all {
		for _, older := range paths[:len(paths)-1] {
			if err := t.whole(older); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return notOpened(path, err)
	}
	defer func() { f.Close() }()
	r, err := unpacked(f)
	z, isPacked := r.(*unpacking)
	if isPacked {
		z.close()
	}
	if err != nil || isPacked {
		return errors.Join(fmt.Errorf("follow %s: it is compressed, so nothing is added to it: search it without --follow", path), err)
	}
	if !all {
		if _, err := f.Seek(0, io.SeekEnd); err != nil {
			return fmt.Errorf("follow %s: %w", path, err)
		}
	}
	for {
		if err := t.read(f); err != nil {
			return err
		}
		moved, err := t.moved(f, path)
		if err != nil {
			return err
		}
		if !moved {
			if err := t.wait(); err != nil {
				return err
			}
			continue
		}
		// It was renamed after the last read, and may have grown until then.
		if err := t.read(f); err != nil {
			return err
		}
		t.line(nil, time.Now()) // a line that was never finished
		next, err := t.next(f, path)
		if err != nil {
			return err
		}
		f.Close()
		f = next
	}
}

// whole reads a log that has been put aside, and may be compressed. Of a damaged one it
// reads what can be unpacked.
func (t *tail) whole(path string) error {
	logs, err := t.in.OpenFiles([]string{path})
	if err != nil {
		return err
	}
	defer logs.Close()
	if err := t.read(logs.readers[0]); err != nil {
		return err
	}
	if err := logs.Damage(); err != nil && t.damaged != nil {
		t.damaged(err)
	}
	t.line(nil, time.Now())
	return t.err
}

// moved says whether path is another file now than f. One that was emptied is
// read from its beginning.
func (t *tail) moved(f *os.File, path string) (bool, error) {
	own, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("follow %s: %w", path, err)
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return false, fmt.Errorf("follow %s: %w", path, err)
	}
	if own.Mode().IsRegular() && own.Size() < at {
		_, err := f.Seek(0, io.SeekStart)
		t.rest, t.skipping = nil, false
		return false, err
	}
	now, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) { // between the renaming and the new one
		return false, nil
	}
	return err == nil && !os.SameFile(own, now), err
}

// next opens the log that was begun after f: the oldest of those younger than it.
func (t *tail) next(f *os.File, path string) (*os.File, error) {
	own, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w", path, err)
	}
	younger := path
	for n := 1; ; n++ {
		older := filepath.Clean(path) + "." + strconv.Itoa(n)
		info, err := os.Stat(older)
		// One that was not kept is older than all that are there, unless these
		// were left from before it.
		if err != nil || os.SameFile(own, info) || info.ModTime().Before(own.ModTime()) {
			break
		}
		younger = older
	}
	for {
		next, err := os.Open(younger)
		if err == nil {
			return next, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("follow %s: %w", path, err)
		}
		younger = path
		if err := t.wait(); err != nil {
			return nil, err
		}
	}
}
