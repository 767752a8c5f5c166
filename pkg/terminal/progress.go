package terminal

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	progressAfter = time.Second
	progressEvery = 200 * time.Millisecond
)

// watched removes the progress line before the first byte of other output goes to the
// terminal.
type watched struct {
	io.Writer
	p *progress
}

func (w *watched) Write(b []byte) (int, error) {
	w.p.end()
	return w.Writer.Write(b)
}

// progress shows, on one line of a terminal, how long an operation has taken. Only the
// goroutine run writes to out. end closes quit, at most once, and waits for done: after
// end returned, run has erased its line and writes nothing more, so the caller may write
// to the same terminal. Any goroutine may call end, any number of times.
type progress struct {
	out  io.Writer
	text func() string
	once sync.Once
	quit chan struct{}
	done chan struct{}
}

func startProgress(out io.Writer, doing string) *progress {
	begun := time.Now()
	return startText(out, func() string { return fmt.Sprintf("%s ... %ds", doing, int(time.Since(begun).Seconds())) })
}

func startText(out io.Writer, text func() string) *progress {
	p := &progress{out: out, text: text, quit: make(chan struct{}), done: make(chan struct{})}
	go p.run()
	return p
}

// Status shows the result of text on a line of the terminal out and updates it five times
// a second, starting after one second. It does nothing when out is no terminal. The
// caller must call end, which erases the line and waits until nothing more is written.
// text is called from another goroutine.
func Status(out io.Writer, text func() string) (end func()) {
	if !IsTerminal(out) {
		return func() {}
	}
	return startText(Bare(out), func() string { return Clean(text()) }).end
}

func (p *progress) run() {
	defer close(p.done)
	wait := time.NewTimer(progressAfter)
	defer wait.Stop()
	shown := false
	for {
		select {
		case <-wait.C:
			fmt.Fprintf(p.out, "\r%s\x1b[K", p.text())
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
