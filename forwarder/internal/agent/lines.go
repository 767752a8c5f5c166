package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/lines"
)

// errHungUp is returned for records that came from a dispatcher which is gone, and
// that the spool has no room for.
var errHungUp = errors.New("the dispatcher has ended, and the spool is full")

// lineSource takes records that others have made: from standard input or a file. They wait
// where they are while the spool takes none.
type lineSource struct {
	nowhere // what lines do as no source does
	cfg     *Config
	in      *lines.Input
	stdin   bool

	// The pump's, of a followed log with a state file.
	at    lines.Position // behind the last record handed on
	saved lines.Position // what the state file says
}

func openLines(a *Agent) (*lineSource, error) {
	s := &lineSource{nowhere: nowhere{a}, cfg: &a.cfg, stdin: a.cfg.Source == SourceStdin}
	lc := lines.Config{
		Path: a.cfg.Source, Follow: a.cfg.Follow, Logger: a.cfg.Logger,
		Bad: func(offset int64, why string) {
			a.badInput.Add(1)
			a.cfg.Logger.Error("a part of the input is no record and was passed over", "source", a.cfg.Source, "offset", offset, "reason", why)
		},
		Gap: func() { a.gaps.Add(1) },
	}
	if s.stdin {
		lc.Path, lc.Stream = "", a.cfg.Stdin
	}
	var err error
	if s.in, err = lines.Open(lc); err != nil {
		return nil, err
	}
	if s.keepsPosition() {
		s.at, err = lines.LoadPosition(a.cfg.StateFile)
		s.saved = s.at
	}
	if err != nil {
		return nil, errors.Join(err, s.in.Close())
	}
	return s, nil
}

// keepsPosition reports whether the next start goes on where this run ended.
func (s *lineSource) keepsPosition() bool { return s.cfg.Follow && s.cfg.StateFile != "" }

func (s *lineSource) whenFull() string {
	if s.cfg.Plugin {
		return "reading waits: the dispatcher's queue fills, and its overflow_action decides; spool-full = drop-oldest drops the oldest records instead"
	}
	return s.nowhere.whenFull()
}

func (s *lineSource) hungUp() bool { return s.cfg.Plugin && s.in.HungUp() }

func (s *lineSource) ends() bool { return !s.cfg.Follow && !s.stdin }

func (s *lineSource) progress(records uint64) string {
	text := fmt.Sprintf("%d records", records)
	if percent, ok := s.in.Progress(); ok {
		text = fmt.Sprintf("%s: %d %% read, %s", s.cfg.Source, percent, text)
	}
	return text
}

// resume takes the place to follow from out of the spool: it is kept there with
// the records themselves, so a crash neither repeats nor loses one. The state file
// is behind it, but decides whether there is anything to resume: without it, the
// source is read from its start.
func (s *lineSource) resume() error {
	if !s.keepsPosition() {
		return nil
	}
	if _, err := os.Stat(s.cfg.StateFile); errors.Is(err, fs.ErrNotExist) {
		return s.at.Save(s.cfg.StateFile)
	}
	sp := s.a.ship.spool
	s.a.pump.spooled = sp.AfterMark()
	if p, ok := lines.ParseMark(sp.Mark(), s.cfg.StateFile); ok {
		s.at = p
	}
	return nil
}

// reading returns the contexts of the reader: hard ends it, and soft has it end as soon as
// nothing more comes. Behind a SIGTERM standard input is still read for a while: a
// dispatcher signals its plugins first and then hands on what it has.
func (s *lineSource) reading(ctx, abort context.Context) (hard, soft context.Context, cancel context.CancelFunc) {
	if !s.stdin {
		hard, cancel = context.WithCancel(ctx)
		return hard, context.Background(), cancel
	}
	hard, end := context.WithCancel(abort)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(s.cfg.ShutdownTimeout):
			end()
		case <-hard.Done():
		}
	})
	return hard, ctx, func() { stop(); end() }
}

// run pumps until the input has ended.
func (s *lineSource) run(ctx, abort context.Context) error {
	hard, soft, cancel := s.reading(ctx, abort)
	defer cancel()
	done := make(chan error, 1)
	from := s.at
	go func() { done <- s.in.Run(hard, soft, from) }()
	var failed error
	unspooled := 0 // read, and not taken by the spool
	pumpLoop(s.a, s.in.Chunks(), func(c *lines.Chunk) (over bool) {
		if failed == nil {
			if failed = s.chunk(ctx, c); failed != nil && !fullAtTheEnd(ctx, failed) {
				cancel()
			}
		}
		if failed != nil {
			unspooled += c.Len()
		}
		s.in.Release(c)
		return false
	}, func() {
		s.announce(ctx)
		s.a.sayAlive(false, s.mark())
		if err := s.savePosition(); err != nil {
			s.cfg.Logger.Error("the state file can't be written: a restart will read records again", "error", err)
		}
	})
	err := <-done
	whole := (err == nil || errors.Is(err, io.EOF)) && unspooled == 0
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) && (ctx.Err() != nil || failed != nil) {
		err = nil
	}
	if fullAtTheEnd(ctx, failed) {
		failed = nil // what a file has stays there, what a pipe had is counted
	}
	if unspooled > 0 && s.stdin {
		// A file has them still, a pipe does not.
		s.a.pump.spoolError.Add(uint64(unspooled))
		s.cfg.Logger.Error("records were read that the spool did not take: they are lost", "records", unspooled)
	}
	if failed == nil {
		s.announce(ctx)
		s.a.sayAlive(true, s.mark())
	}
	if err == nil && failed == nil && !whole && s.ends() {
		// Whoever waits for exit code 0 takes the file for shipped, and may remove it.
		err = fmt.Errorf("%w: told to end before all of %s was read: the next start reads it from its beginning", ErrLeft, s.cfg.Source)
	}
	return errors.Join(err, failed, s.savePosition())
}

// fullAtTheEnd reports whether records were not taken because the spool is full and is not
// waited for any more: the input is read on, to be counted.
func fullAtTheEnd(ctx context.Context, failed error) bool {
	return ctx.Err() != nil && errors.Is(failed, ctx.Err()) || errors.Is(failed, errHungUp)
}

// chunk hands on a chunk, and with it how far the source is read then.
func (s *lineSource) chunk(ctx context.Context, c *lines.Chunk) error {
	p := &s.a.pump
	p.reset()
	for _, l := range c.Lines {
		p.line(l)
	}
	for _, r := range c.Records {
		p.record(r)
	}
	if s.keepsPosition() {
		p.mark = c.At.Mark(s.cfg.StateFile)
	}
	err := p.commitOrWait(ctx)
	p.mark = nil
	if err != nil {
		return err
	}
	s.at = c.At
	return nil
}

// mark is where the source goes on, for a record of ours: behind it the spool then has no line of
// the source without a mark, and a start after a crash finds the place. nil: none is kept.
func (s *lineSource) mark() []byte {
	if !s.keepsPosition() {
		return nil
	}
	return s.at.Mark(s.cfg.StateFile)
}

// announce says in the stream what was lost since the last time: nothing is lost on the way
// in.
func (s *lineSource) announce(ctx context.Context) {
	records := s.a.shippingLosses()
	if len(records) == 0 {
		return
	}
	p := &s.a.pump
	p.reset()
	for _, r := range records {
		p.record(r)
	}
	p.mark = s.mark()
	err := p.commitOrWait(ctx)
	p.mark = nil
	if err != nil {
		s.cfg.Logger.Error("what was lost could not be said in the stream", "error", err)
	}
}

// savePosition writes how far a followed log was read, once the spool is synced.
func (s *lineSource) savePosition() error {
	if !s.keepsPosition() || s.at == s.saved {
		return nil
	}
	if s.a.ship != nil {
		if err := s.a.ship.spool.Sync(); err != nil {
			return err
		}
	}
	if err := s.at.Save(s.cfg.StateFile); err != nil {
		return err
	}
	s.saved = s.at
	return nil
}

func (s *lineSource) close() error { return s.in.Close() }
