// Package terminal contains what a command does only when a person uses it at a terminal:
// colour, a pager, a progress line for long operations, and a guard against text that
// would control the terminal. Both command lines may import it, and the packages that
// write their output. It imports no other package of this module.
package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// Options says how a Screen shows results.
type Options struct {
	// Color is "always", "never" or anything else for automatic: colour on a terminal,
	// unless NO_COLOR is set or TERM is "dumb".
	Color string
	// Pager shows the output in $PAGER on a terminal, or in less when PAGER is empty.
	// There is no pager when the process has more rights than its user.
	Pager bool
	// Form is the kind of text that is written. Bare lets all text reach the terminal
	// unchanged.
	Form Form
	Bare bool
	// Getenv returns the value of an environment variable; nil stands for os.Getenv.
	Getenv func(name string) string
	// Doing names the operation in the progress line ("searching"); empty shows no
	// progress line.
	Doing string
}

// Screen is the destination of a command's results.
type Screen struct {
	// Out is where to write results. Open leaves a writer that is no terminal unchanged.
	Out io.Writer
	// Err is where to write errors and warnings. It discards them once the user has left
	// the pager.
	Err io.Writer
	// Color says whether to write colours.
	Color bool
	// People says that a person reads the results, so that each result should be shown as
	// soon as it is found.
	People bool

	pager *exec.Cmd
	pipe  io.WriteCloser
	ctx   context.Context // the pager's: done when it was left, or by an interrupt
	end   context.CancelFunc
	left  bool // as it was when Close was called
	prog  *progress
	guard *guard
}

// Open returns a Screen for out and errw. It examines what they are and starts the pager
// if o asks for one. With a pager, the returned context is cancelled when the user
// interrupts or leaves the pager; later writes are discarded. The caller must call Close.
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

// Left reports whether the user has left the pager or has interrupted the command before all
// was written. Also to be asked after Close.
func (s *Screen) Left() bool { return s.left || s.pager != nil && s.ctx.Err() != nil }

// Close ends the output and waits until the user has left the pager.
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
	s.left = s.Left()
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
