package search

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/logscan"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// closeWriter flushes what was found before an error, which comes first.
func closeWriter(w output.Writer, err error) error {
	if cerr := w.Close(); err == nil && cerr != nil {
		return fmt.Errorf("write result: %w", cerr)
	}
	return err
}

// runLogs writes the events of logs that o's query finds to out, in o's format with
// times in loc, and returns how many it found. All cores read, match and format. It
// stops at the first one for --just-one, and when ctx is done. skipped and text are as in
// logscan.Config.
func runLogs(ctx context.Context, o *Options, loc *time.Location, logs *logscan.Logs, skipped func(line []byte, err error), text func([]byte), out io.Writer) (found int, err error) {
	p := newPrinter(o, loc, out)
	cfg := logscan.Config{Query: &o.Query, EOETimeout: o.EOETimeout, Skipped: skipped, Text: text}
	err = logscan.Scan(ctx, logs, cfg, p.worker, p.deliver)
	return p.found, err
}

// printer writes the events that a scan finds. Its workers format events into pages,
// deliver writes the pages. It stops the scan after Options.Limit events.
//
// Workers run in parallel and deliver runs in the goroutine that called the scan. They
// share only what does not change after newPrinter (o, loc, most) and pages, which is
// safe for concurrent use. found and out belong to deliver. A page has one owner at a
// time: the worker until Flush, then deliver, which returns it to pages.
type printer struct {
	o     *Options
	loc   *time.Location
	out   io.Writer
	head  []byte
	most  int // 0 is all
	found int
	pages sync.Pool // of *page
}

// page holds some events as text.
type page struct {
	text []byte
	ends []int // of each event
}

// newPrinter returns a printer to out in o's format, with times in loc (nil is
// time.Local).
func newPrinter(o *Options, loc *time.Location, out io.Writer) *printer {
	p := &printer{o: o, loc: loc, out: out, head: output.NewFormatter(&o.Config, loc).Head(nil), most: int(min(o.Limit, 1<<62))}
	p.pages.New = func() any { return &page{} }
	return p
}

// worker is logscan.Scan's newWorker.
func (p *printer) worker() (logscan.Worker[*page], error) {
	return &pageWorker{p: p, format: output.NewFormatter(&p.o.Config, p.loc), page: p.pages.Get().(*page)}, nil
}

// pageWorker is the logscan.Worker that formats events into a page. It belongs to one
// goroutine.
type pageWorker struct {
	p      *printer
	format output.Formatter
	page   *page
}

func (w *pageWorker) Event(ev *event.Event) error {
	w.page.text = w.format.Append(w.page.text, ev)
	w.page.ends = append(w.page.ends, len(w.page.text))
	if w.p.most > 0 && len(w.page.ends) >= w.p.most {
		return query.ErrStop
	}
	return nil
}

func (w *pageWorker) Flush() (*page, error) {
	full := w.page
	w.page = w.p.pages.Get().(*page)
	return full, nil
}

// deliver writes a page.
func (p *printer) deliver(page *page) error {
	n, text := len(page.ends), page.text
	if n == 0 {
		p.pages.Put(page)
		return nil
	}
	full := p.most > 0 && p.found+n >= p.most
	if full {
		n = p.most - p.found
		text = text[:page.ends[n-1]]
	}
	if p.found == 0 && len(p.head) > 0 {
		if _, err := p.out.Write(p.head); err != nil {
			return fmt.Errorf("write result: %w", err)
		}
	}
	if _, err := p.out.Write(text); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	p.found += n
	page.text, page.ends = page.text[:0], page.ends[:0]
	p.pages.Put(page)
	if full {
		return query.ErrStop
	}
	return nil
}

// warnTo returns an Options.Warn that writes lines to w.
func warnTo(w io.Writer) func(string) {
	var mu sync.Mutex // of w
	return func(text string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(w, text)
	}
}
