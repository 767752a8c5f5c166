// Package terminal is what a command does for a person at a terminal and for
// nobody else: colour, a pager, and word of how far it is when it takes long. Both
// command lines may import it.
package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"
)

// Options of a screen.
type Options struct {
	// Color is always, never, or else automatic: on a terminal, unless NO_COLOR is
	// set or TERM is dumb.
	Color string
	// Pager shows what is written in $PAGER (less without one) on a terminal.
	Pager bool
	// Getenv looks a variable of the environment up; nil is os.Getenv.
	Getenv func(name string) string
	// Doing is a word for what takes long ("searching"); empty is silence.
	Doing string
}

const (
	progressAfter = time.Second
	progressEvery = 200 * time.Millisecond
)

// Screen is where a command's results go.
type Screen struct {
	// Out is where to write. It is an *os.File as it was where nothing is done.
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
}

// IsTerminal says whether w is a terminal.
func IsTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && f != nil && isatty.IsTerminal(f.Fd())
}

// Open looks at what out and errw are. With a pager the returned context ends when
// the user interrupts or leaves it; what is written then goes nowhere.
func Open(ctx context.Context, out, errw io.Writer, o Options) (context.Context, *Screen) {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	s := &Screen{Out: out, Err: errw, People: IsTerminal(out)}
	switch o.Color {
	case "always":
		s.Color = true
	case "never":
	default:
		s.Color = s.People && o.Getenv("NO_COLOR") == "" && o.Getenv("TERM") != "dumb"
	}
	if s.People && o.Pager {
		ctx = s.page(ctx, out, errw, o.Getenv)
	}
	if o.Doing != "" && IsTerminal(errw) && o.Getenv("TERM") != "dumb" {
		s.prog = startProgress(errw, o.Doing)
		if s.People {
			s.Out = &watched{s.Out, s.prog}
		}
	}
	return ctx, s
}

// page starts the pager; without one that can be started nothing changes.
func (s *Screen) page(ctx context.Context, out, errw io.Writer, getenv func(string) string) context.Context {
	words := getenv("PAGER")
	switch {
	case words == "cat" || getenv("TERM") == "dumb":
		return ctx
	case words == "":
		if _, err := exec.LookPath("less"); err != nil {
			return ctx
		}
		words = "less"
	}
	cmd := exec.Command("/bin/sh", "-c", words)
	cmd.Stdout, cmd.Env = out, os.Environ()
	if f, ok := errw.(*os.File); ok { // else two would write to it
		cmd.Stderr = f
	}
	if getenv("LESS") == "" {
		cmd.Env = append(cmd.Env, "LESS=FRX") // not for less than a screen; colours; what was seen stays
	}
	if getenv("LESSCHARSET") == "" { // names are mostly UTF-8, whatever the locale
		cmd.Env = append(cmd.Env, "LESSCHARSET=utf-8")
	}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return ctx
	}
	if err := cmd.Start(); err != nil {
		return ctx
	}
	s.ctx, s.end = signal.NotifyContext(ctx, os.Interrupt)
	s.pager, s.pipe, s.Out, s.Err = cmd, pipe, &paged{s, pipe}, &paged{s, errw}
	return s.ctx
}

// paged writes until the pager was left.
type paged struct {
	s *Screen
	w io.Writer
}

func (p *paged) Write(b []byte) (int, error) {
	if p.s.Left() {
		return len(b), nil
	}
	n, err := p.w.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		p.s.end()
		return len(b), nil
	}
	return n, err
}

// Left says whether the user has seen enough, and left the pager or interrupted.
func (s *Screen) Left() bool { return s.ctx != nil && s.ctx.Err() != nil }

// Close ends the output: it waits for the pager to be left.
func (s *Screen) Close() error {
	if s.prog != nil {
		s.prog.end()
	}
	if s.pager == nil {
		return nil
	}
	err := s.pipe.Close()
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

// watched ends the progress before something else is written to the terminal.
type watched struct {
	io.Writer
	p *progress
}

func (w *watched) Write(b []byte) (int, error) {
	w.p.end()
	return w.Writer.Write(b)
}

// progress is a line that says for how long something has been going on.
type progress struct {
	out   io.Writer
	doing string
	begun time.Time
	once  sync.Once
	quit  chan struct{}
	done  chan struct{}
}

func startProgress(out io.Writer, doing string) *progress {
	p := &progress{out: out, doing: doing, begun: time.Now(), quit: make(chan struct{}), done: make(chan struct{})}
	go p.run()
	return p
}

func (p *progress) run() {
	defer close(p.done)
	wait := time.NewTimer(progressAfter)
	defer wait.Stop()
	shown := false
	for {
		select {
		case <-wait.C:
			fmt.Fprintf(p.out, "\r%s ... %ds\x1b[K", p.doing, int(time.Since(p.begun).Seconds()))
			shown = true
			wait.Reset(progressEvery)
		case <-p.quit:
			if shown {
				fmt.Fprint(p.out, "\r\x1b[K")
			}
			return
		}
	}
}

// end takes the line away. It may be called again.
func (p *progress) end() {
	p.once.Do(func() { close(p.quit) })
	<-p.done
}
