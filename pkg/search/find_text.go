package search

import (
	"context"
	"runtime"
	"sync"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// ScanTexts gives what a source finds to several goroutines, some events at a time, and their results to
// deliver, in the order of the scan. newWorker makes the function by which one goroutine works; all have been made before
// the scan begins, and none works any more when ScanTexts returns. deliver is called by one goroutine, and gets what was found before an error, too. An error of
// a worker or of deliver ends the scan.
func ScanTexts[R any](ctx context.Context, q *query.Query, src query.TextSource, newWorker func() func(query.Texts) (R, error), deliver func(R) error) error {
	// The scan, which is the caller's goroutine, sends each job to order, and then to todo; deliver's goroutine gets the jobs from order,
	// and waits until the first is done. order bounds how many there are. A job that is in order gets done: workers read
	// todo to its end.
	type job struct {
		texts query.Texts
		out   R
		err   error
		done  chan struct{}
	}
	workers := runtime.GOMAXPROCS(0)
	todo, order := make(chan *job, 4*workers), make(chan *job, 4*workers)
	var working, delivering sync.WaitGroup
	for range workers {
		work := newWorker()
		working.Go(func() {
			for j := range todo {
				j.out, j.err = work(j.texts)
				close(j.done)
			}
		})
	}
	var bad error // deliver's goroutine's, until it has closed failed
	failed := make(chan struct{})
	delivering.Go(func() {
		for j := range order {
			<-j.done
			if bad != nil {
				continue
			}
			if bad = j.err; bad == nil {
				bad = deliver(j.out)
			}
			if bad != nil {
				close(failed)
			}
		}
	})
	err := src.ScanText(ctx, q, func(t query.Texts) error {
		j := &job{texts: t, done: make(chan struct{})}
		select {
		case order <- j:
			todo <- j // it has room soon: no more are in order
			return nil
		case <-failed:
			return bad
		}
	})
	close(todo)
	close(order)
	working.Wait()
	delivering.Wait()
	if bad != nil {
		return bad
	}
	return err
}

// sheet is what is written of some events.
type sheet struct {
	text   *[]byte
	events int
}

// findText writes the events that a source has as text, and returns their number. format makes a
// Formatter for each goroutine.
func findText(ctx context.Context, q *query.Query, src query.TextSource, w output.Pages, format func() output.Formatter) (found uint64, err error) {
	pages := sync.Pool{New: func() any { return new([]byte) }}
	err = ScanTexts(ctx, q, src, func() func(query.Texts) (sheet, error) {
		f := format()
		return func(t query.Texts) (sheet, error) {
			page := pages.Get().(*[]byte)
			*page = formatted((*page)[:0], f, t)
			return sheet{page, t.Len()}, nil
		}
	}, func(s sheet) error {
		if err := written(w.Page(*s.text)); err != nil {
			return err
		}
		found += uint64(s.events)
		pages.Put(s.text)
		return nil
	})
	return found, err
}

// formatted appends the text of some events to page.
func formatted(page []byte, f output.Formatter, t query.Texts) []byte {
	if output.IsRaw(f) {
		for i := range t.Len() {
			page = t.AppendRaw(page, i)
		}
		return page
	}
	var ev event.Event
	for i := range t.Len() {
		t.Event(i, &ev)
		page = f.Append(page, &ev)
	}
	return page
}
