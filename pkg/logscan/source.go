package logscan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Source answers queries from logs: it implements query.Source. One goroutine may use it.
// The caller must call Close after use.
type Source struct {
	Input      Input
	Again      bool                         // the logs are scanned more than once: standard input is saved
	EOETimeout time.Duration                // as in Config
	Skipped    func(line []byte, err error) // as in Config
	Text       func(text []byte)            // as in Config; not called by Follow
	Damaged    func(err error)              // Follow: is told of a compressed log that ends in damage

	once  sync.Once // of what is said about the logs
	spool *os.File  // standard input, where it is read more than once
}

var _ query.Source = (*Source)(nil)

// errBatches is returned for a query that asks for batches of events or for positions in
// an answer.
var errBatches = errors.New("logs have no batches, only a collector's store has")

// About implements query.Source.
func (s *Source) About(context.Context) (query.About, error) { return query.About{}, nil }

// Tally implements query.Source. It reads all events and passes each to rest, if there
// are fields.
func (s *Source) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	sum := query.NewTally(fields, nil)
	if len(fields) == 0 {
		rest = func(*event.Event) error { sum.Events++; return nil }
	}
	return sum, s.Scan(ctx, q, rest)
}

// Close removes the saved standard input.
func (s *Source) Close() error {
	if s.spool == nil {
		return nil
	}
	return s.spool.Close()
}

// open opens the logs from their beginning.
func (s *Source) open() (*Logs, error) {
	in := s.Input
	in.Notes = io.Discard
	s.once.Do(func() { in.Notes = s.Input.Notes })
	paths, err := in.Files()
	if err != nil {
		return nil, err
	}
	if len(paths) == 1 && paths[0] == Stdin && s.Again {
		return s.again()
	}
	return in.OpenFiles(paths)
}

// again is standard input, kept in a file without a name to be read again.
func (s *Source) again() (*Logs, error) {
	if s.spool == nil {
		f, err := os.CreateTemp("", "search-*")
		if err != nil {
			return nil, fmt.Errorf("keep the input to read it again: %w", err)
		}
		s.spool = f
		_, err = io.Copy(f, s.Input.In)
		if err = errors.Join(os.Remove(f.Name()), err); err != nil {
			return nil, fmt.Errorf("keep the input to read it again: %w", err)
		}
	}
	if _, err := s.spool.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the input again: %w", err)
	}
	r, err := unpacked(s.spool)
	if err != nil {
		return nil, fmt.Errorf("stdin: %w", err)
	}
	return &Logs{readers: []io.Reader{r}}, nil
}

// Scan implements query.Source. The order is that in which the stock ausearch prints the
// events of a log.
func (s *Source) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) (err error) {
	if q.Batches || q.AfterBatch > 0 || q.After != nil {
		return errBatches
	}
	logs, err := s.open()
	if err != nil {
		return err
	}
	defer logs.Close()
	cfg := Config{Query: q, EOETimeout: s.EOETimeout, Skipped: s.Skipped, Text: s.Text}
	if q.Reverse {
		back := &backwards{keep: q.Limit}
		defer func() { err = errors.Join(err, back.close()) }()
		err := Scan(ctx, logs, cfg, newKeeper, func(list []*event.Event) error {
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
	fn = q.Limited(fn)
	return Scan(ctx, logs, cfg, newKeeper, func(list []*event.Event) error {
		for _, ev := range list {
			if err := fn(ev); err != nil {
				return err
			}
		}
		return nil
	})
}

func stopped(err error) error {
	if errors.Is(err, query.ErrStop) {
		return nil
	}
	return err
}

// keeper is the Worker that returns the events of a batch to deliver.
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
