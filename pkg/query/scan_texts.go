package query

import (
	"context"
	"runtime"
	"sync"
)

// ScanTexts gives what a source finds to several goroutines, some events at a time, and their results to
// deliver, in the order of the scan. The events are opened by then, and are not to be kept. newWorker makes the function by which one goroutine works; all have been made before
// the scan begins, and none works any more when ScanTexts returns. deliver is called by one goroutine, and gets what was found before an error, too. An error of
// a worker or of deliver ends the scan.
func ScanTexts[R any](ctx context.Context, q *Query, src TextSource, newWorker func() func(Texts) (R, error), deliver func(R) error) error {
	// The scan, which is the caller's goroutine, sends each job to order, and then to todo; deliver's goroutine gets the jobs from order,
	// and waits until the first is done. order bounds how many there are. A job that is in order gets done: workers read
	// todo to its end.
	type job struct {
		texts Texts
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
				if j.err = j.texts.Open(); j.err == nil {
					j.out, j.err = work(j.texts)
				}
				j.texts.Done()
				j.texts = nil
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
	err := src.ScanText(ctx, q, func(t Texts) error {
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
