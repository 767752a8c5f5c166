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

// Status shows a line that says how far something is, where out is a terminal, from
// the second second on. Other lines may be written between; end takes it away.
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
