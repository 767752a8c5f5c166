package search

import (
	"context"
	"runtime"
	"sync"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// sheet is some events of an answer and, once ready is closed, what is written of them.
type sheet struct {
	texts query.Texts
	page  []byte
	ready chan struct{}
}

// findText writes the events that a source has as text, and returns their number. The caller's goroutine scans, others
// format, one writes. The writer gets the sheets in the order of the scan, by order, which also bounds
// how many there are: the scan waits for room in it. format makes each of the formatting ones its
// Formatter.
func findText(ctx context.Context, q *query.Query, src query.TextSource, w output.Pages, format func() output.Formatter) (found uint64, err error) {
	workers := runtime.GOMAXPROCS(0)
	todo, order := make(chan *sheet, 4*workers), make(chan *sheet, 4*workers)
	var formatting, writing sync.WaitGroup
	pages := sync.Pool{New: func() any { return new([]byte) }}
	for range workers {
		formatting.Go(func() {
			f := format()
			for s := range todo {
				s.page = formatted((*pages.Get().(*[]byte))[:0], f, s.texts)
				close(s.ready)
			}
		})
	}
	// bad is the writer's own until it has closed failed.
	var bad error
	failed := make(chan struct{})
	writing.Go(func() {
		for s := range order {
			<-s.ready
			if bad != nil {
				continue
			}
			if bad = written(w.Page(s.page)); bad != nil {
				close(failed)
				continue
			}
			found += uint64(s.texts.Len())
			page := s.page // apart from s, which has the texts
			pages.Put(&page)
		}
	})
	err = src.ScanText(ctx, q, func(t query.Texts) error {
		s := &sheet{texts: t, ready: make(chan struct{})}
		select {
		case order <- s: // one is taken from order only when it is ready, so todo has room soon
			todo <- s
			return nil
		case <-failed:
			return bad
		}
	})
	close(todo)
	close(order)
	formatting.Wait()
	writing.Wait()
	if bad != nil {
		err = bad
	}
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
