package search

import (
	"context"
	"sync"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// sheet is what is written of some events.
type sheet struct {
	text   *[]byte
	events int
}

// findText writes the events that a source has as text, and returns their number. format makes a
// Formatter for each goroutine.
func findText(ctx context.Context, q *query.Query, src query.TextSource, w output.Pages, format func() output.Formatter) (found uint64, err error) {
	pages := sync.Pool{New: func() any { return new([]byte) }}
	err = query.ScanTexts(ctx, q, src, func() func(query.Texts) (sheet, error) {
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
