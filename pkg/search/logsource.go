package search

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// logSource is the logs that the options name, as a Source.
type logSource struct {
	o       *Options
	logFile string
	stdio   Stdio

	once  sync.Once // of what is said about the logs
	spool *os.File  // standard input, where it is read more than once
}

var (
	_ Source = (*logSource)(nil)
	_ Live   = (*logSource)(nil)
)

func (s *logSource) Close() error {
	if s.spool == nil {
		return nil
	}
	return s.spool.Close()
}

// open opens the logs from their beginning.
func (s *logSource) open() (*Logs, error) {
	stdio := s.stdio
	stdio.Err = io.Discard
	s.once.Do(func() { stdio.Err = s.stdio.Err })
	paths, err := inputs(s.o.Input, s.o.InputLogs, s.logFile, stdio)
	if err != nil {
		return nil, err
	}
	if len(paths) == 1 && paths[0] == stdinName && (s.o.Around > 0 || s.o.Tree) {
		return s.again()
	}
	return openAll(paths, stdio)
}

// again is standard input, kept in a file without a name to be read again.
func (s *logSource) again() (*Logs, error) {
	if s.spool == nil {
		f, err := os.CreateTemp("", "search-*")
		if err != nil {
			return nil, fmt.Errorf("keep the input to read it again: %w", err)
		}
		s.spool = f
		_, err = io.Copy(f, s.stdio.In)
		if err = errors.Join(os.Remove(f.Name()), err); err != nil {
			return nil, fmt.Errorf("keep the input to read it again: %w", err)
		}
	}
	if _, err := s.spool.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the input again: %w", err)
	}
	return &Logs{readers: []io.Reader{s.spool}}, nil
}

// Scan implements Source.
func (s *logSource) Scan(ctx context.Context, q *Query, limit uint64, fn func(*event.Event) error) (err error) {
	logs, err := s.open()
	if err != nil {
		return err
	}
	defer logs.Close()
	cfg := ScanConfig{Query: q, EOETimeout: s.o.EOETimeout}
	if s.o.Debug {
		cfg.Skipped = func(line []byte, err error) {
			fmt.Fprintf(s.stdio.Err, "skipped: %v: %.200q\n", err, line)
		}
	}
	if q.Reverse {
		back := &backwards{keep: limit}
		defer func() { err = errors.Join(err, back.close()) }()
		err := ScanLogs(ctx, logs, cfg, newKeeper, func(list []*event.Event) error {
			for _, ev := range list {
				if err := back.add(ev); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		return stopped(back.each(fn))
	}
	n := uint64(0)
	return ScanLogs(ctx, logs, cfg, newKeeper, func(list []*event.Event) error {
		for _, ev := range list {
			if err := fn(ev); err != nil {
				return err
			}
			if n++; n == limit {
				return ErrStop
			}
		}
		return nil
	})
}

func stopped(err error) error {
	if errors.Is(err, ErrStop) {
		return nil
	}
	return err
}

// keeper is the worker that hands events on.
type keeper struct{ list []*event.Event }

func newKeeper() (Worker[[]*event.Event], error) { return &keeper{}, nil }

func (k *keeper) Event(ev *event.Event) error {
	k.list = append(k.list, keepEvent(ev))
	return nil
}

func (k *keeper) Flush() ([]*event.Event, error) {
	list := k.list
	k.list = nil
	return list, nil
}

// runOwn is RunFiles for what the stock tool cannot do.
func runOwn(ctx context.Context, o *Options, loc *time.Location, logFile string, stdio Stdio) int {
	src := &logSource{o: o, logFile: logFile, stdio: stdio}
	w, err := NewWriter(stdio.Out, o, loc)
	if err != nil {
		fmt.Fprintln(stdio.Err, err)
		return 1
	}
	found, err := Find(ctx, o, src, w, stdio.Out, func(text string) { fmt.Fprintln(stdio.Err, text) })
	if err = errors.Join(err, w.Close(), src.Close()); err != nil {
		fmt.Fprintln(stdio.Err, err)
		return 1
	}
	return o.Exit(int(found), stdio.Err)
}
