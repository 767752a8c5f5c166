// Package terminal is what a command does for a person at a terminal and for
// nobody else: colour, a pager, word of how far it is when it takes long, and a guard
// against text that a terminal would obey. Both command lines may import it, and what
// writes for them. It imports nothing of ours.
package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// Options of a screen.
type Options struct {
	// Color is always, never, or else automatic: on a terminal, unless NO_COLOR is
	// set or TERM is dumb.
	Color string
	// Pager shows what is written in $PAGER (less without one) on a terminal. Whoever
	// has more rights than the user has none.
	Pager bool
	// Form is what text is written. Bare lets all of it through to a terminal as it is.
	Form Form
	Bare bool
	// Getenv looks a variable of the environment up; nil is os.Getenv.
	Getenv func(name string) string
	// Doing is a word for what takes long ("searching"); empty is silence.
	Doing string
}

// Screen is where a command's results go.
type Screen struct {
	// Out is where to write. It is as it was where that is no terminal.
	Out io.Writer
	// Err is where to complain: about nothing, once the pager was left.
	Err io.Writer
	// Color says whether to write in colour.
	Color bool
	// People says that results go to somebody's eyes: what is found should be
	// shown at once.
	People bool

	pager *exec.Cmd
	pipe  io.WriteCloser
	ctx   context.Context // the pager's: done when it was left, or by an interrupt
	end   context.CancelFunc
	prog  *progress
	guard *guard
}

// Open looks at what out and errw are. With a pager the returned context ends when
// the user interrupts or leaves it; what is written then goes nowhere.
func Open(ctx context.Context, out, errw io.Writer, o Options) (context.Context, *Screen) {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	s := &Screen{Out: Bare(out), Err: errw, People: IsTerminal(out)}
	errw = Bare(errw)
	switch o.Color {
	case "always":
		s.Color = true
	case "never":
	default:
		s.Color = s.People && o.Getenv("NO_COLOR") == "" && o.Getenv("TERM") != "dumb"
	}
	if s.People && o.Pager {
		ctx = s.page(ctx, s.Out, s.Err, o.Getenv)
	}
	if o.Doing != "" && IsTerminal(errw) && o.Getenv("TERM") != "dumb" {
		s.prog = startProgress(errw, o.Doing)
		if s.People {
			s.Out = &watched{s.Out, s.prog}
		}
	}
	if s.People && !o.Bare {
		if !s.Color && o.Form == Styled {
			o.Form = Text
		}
		file, _ := File(out)
		s.guard = &guard{w: s.Out, file: file, form: o.Form}
		s.Out = s.guard
	}
	return ctx, s
}

// Left says whether the user has seen enough, and left the pager or interrupted.
func (s *Screen) Left() bool { return s.ctx != nil && s.ctx.Err() != nil }

// Close ends the output: it waits for the pager to be left.
func (s *Screen) Close() error {
	if s.prog != nil {
		s.prog.end()
	}
	var err error
	if s.guard != nil {
		err = s.guard.flush()
	}
	if s.pager == nil {
		return err
	}
	err = errors.Join(err, s.pipe.Close())
	waited := s.pager.Wait()
	var exit *exec.ExitError
	if errors.As(waited, &exit) {
		waited = nil // how it ends is the user's
	}
	s.pager = nil
	s.end()
	if err = errors.Join(err, waited); err != nil {
		return fmt.Errorf("pager: %w", err)
	}
	return nil
}
