package agent

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// errHungUp is returned for records that came from a dispatcher which is gone, and
// that the spool has no room for.
var errHungUp = errors.New("the dispatcher has ended, and the spool is full")

// What comes behind a SIGTERM on standard input is still read: a dispatcher signals
// its plugins first and then hands on what it has. It is over at the end of the input,
// or when nothing has come for so long.
const quietEnd = 300 * time.Millisecond

// readingContext ends when a source of lines is not to be read any more: with ctx, or
// for standard input ShutdownTimeout later, or at once with abort.
func (a *Agent) readingContext(ctx, abort context.Context) (context.Context, context.CancelFunc) {
	if a.cfg.Source != SourceStdin {
		return context.WithCancel(ctx)
	}
	reading, cancel := context.WithCancel(abort)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(a.cfg.ShutdownTimeout):
			cancel()
		case <-reading.Done():
		}
	})
	return reading, func() { stop(); cancel() }
}

// soft is the context whose end has standard input read only as long as something
// comes.
func (a *Agent) soft(ctx context.Context) context.Context {
	if a.cfg.Source == SourceStdin {
		return ctx
	}
	return context.Background()
}

// endsSoon reports whether a failure is that of a full spool at the end: the input is
// read on, to be counted.
func (a *Agent) endsSoon(ctx context.Context, failed error) bool {
	return ctx.Err() != nil && errors.Is(failed, ctx.Err()) || errors.Is(failed, errHungUp)
}

// hungUp reports whether the dispatcher that feeds us has closed its end. What it wrote
// before may still be there to be read.
func (a *Agent) hungUp() bool {
	if !a.cfg.Plugin || a.input == nil {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(a.input.Fd())}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}

// runLines pumps a source of lines until it has ended.
func (a *Agent) runLines(ctx, abort context.Context) error {
	readCtx, cancel := a.readingContext(ctx, abort)
	defer cancel()
	chunks := make(chan *chunk)
	r := newReader(chunks, func(offset int64, why string) {
		a.badInput.Add(1)
		a.cfg.Logger.Error("a part of the input is no record and was passed over", "source", a.cfg.Source, "offset", offset, "reason", why)
	})
	done := make(chan error, 1)
	go func() {
		defer close(chunks)
		if a.input == nil {
			f := &follower{path: a.cfg.Source, from: a.from, r: r, logger: a.cfg.Logger, gap: func() { a.gaps.Add(1) }}
			done <- f.run(readCtx)
			return
		}
		if a.packed != nil {
			done <- a.readPacked(readCtx, r)
			return
		}
		done <- readStream(readCtx, a.soft(ctx), a.input, r)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var failed error
	unspooled := 0 // read, and not taken by the spool
	for chunks != nil {
		select {
		case c, ok := <-chunks:
			if !ok {
				chunks = nil
				break
			}
			if failed == nil {
				if failed = a.chunk(ctx, c); failed != nil && !a.endsSoon(ctx, failed) {
					cancel()
				}
			}
			if failed != nil {
				unspooled += len(c.lines) + len(c.records)
			}
			r.free <- c
		case f := <-a.cmds:
			f()
		case <-tick.C:
			a.announceShipping(ctx)
			a.tick()
			if err := a.saveState(); err != nil {
				a.cfg.Logger.Error("the state file can't be written: a restart will read records again", "error", err)
			}
		}
	}
	err := <-done
	if errors.Is(err, io.EOF) || ctx.Err() != nil && errors.Is(err, context.Canceled) || failed != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	if a.endsSoon(ctx, failed) {
		failed = nil // the spool was full: what a file has stays there, what a pipe had is counted
	}
	if unspooled > 0 && a.input != nil && a.cfg.Source == SourceStdin {
		// A file has them still, a pipe does not.
		a.pump.spoolError.Add(uint64(unspooled))
		a.cfg.Logger.Error("records were read that the spool did not take: they are lost", "records", unspooled)
	}
	if failed == nil {
		a.announceShipping(ctx)
	}
	return errors.Join(err, failed, a.saveState())
}

func (a *Agent) chunk(ctx context.Context, c *chunk) error {
	a.pump.reset()
	for _, l := range c.lines {
		a.pump.line(l)
	}
	for _, r := range c.records {
		a.pump.record(r)
	}
	if a.cfg.Follow && a.cfg.StateFile != "" {
		a.pump.mark = c.pos.mark(a.cfg.StateFile)
	}
	err := a.pump.commitOrWait(ctx)
	a.pump.mark = nil
	if err != nil {
		return err
	}
	a.pos = c.pos
	return nil
}

// resume takes the place to follow from out of the spool: it is kept there with
// the records themselves, so a crash neither repeats nor loses one. The state file
// is behind it, but decides whether there is anything to resume: without it, the
// source is read from its start.
func (a *Agent) resume() error {
	if !a.cfg.Follow || a.cfg.StateFile == "" {
		return nil
	}
	if _, err := os.Stat(a.cfg.StateFile); errors.Is(err, fs.ErrNotExist) {
		return saveState(a.cfg.StateFile, a.from)
	}
	a.pump.there = a.spool.AfterMark()
	if p, ok := parseMark(a.spool.Mark(), a.cfg.StateFile); ok {
		a.from, a.pos = p, p
	}
	return nil
}

// saveState writes how far a followed file was read, once the spool is synced.
func (a *Agent) saveState() error {
	if !a.cfg.Follow || a.cfg.StateFile == "" || a.pos == a.saved {
		return nil
	}
	if a.spool != nil {
		if err := a.spool.Sync(); err != nil {
			return err
		}
	}
	if err := saveState(a.cfg.StateFile, a.pos); err != nil {
		return err
	}
	a.saved = a.pos
	return nil
}
