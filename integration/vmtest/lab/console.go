package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
)

// Console is a guest's serial line, on which somebody can log in.
type Console struct {
	line net.Conn
	log  *os.File // or none

	mu   sync.Mutex // guards the rest
	text []byte
	seen int // Expect has looked at what is before
	more chan struct{}
	gone bool
}

func newConsole(line net.Conn, log string) *Console {
	c := &Console{line: line, more: make(chan struct{})}
	if log != "" {
		c.log, _ = os.Create(log) // without one there is still Tail
	}
	go c.read()
	return c
}

func (c *Console) read() {
	buf := make([]byte, 4096)
	for {
		n, err := c.line.Read(buf)
		if c.log != nil {
			_, _ = c.log.Write(buf[:n])
		}
		c.mu.Lock()
		c.text = append(c.text, buf[:n]...)
		close(c.more)
		c.more = make(chan struct{})
		c.gone = err != nil
		c.mu.Unlock()
		if err != nil {
			if c.log != nil {
				_ = c.log.Close()
			}
			return
		}
	}
}

func (c *Console) close() { _ = c.line.Close() }

// Send types text.
func (c *Console) Send(text string) error {
	_, err := c.line.Write([]byte(text))
	return err
}

// Expect waits until text comes after what was expected before, and returns what came up
// to its end.
func (c *Console) Expect(ctx context.Context, text string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		c.mu.Lock()
		rest, more, gone := string(c.text[c.seen:]), c.more, c.gone
		at := strings.Index(rest, text)
		if at >= 0 {
			c.seen += at + len(text)
		}
		c.mu.Unlock()
		if at >= 0 {
			return rest[:at+len(text)], nil
		}
		if gone {
			return rest, errors.New("the console is closed")
		}
		select {
		case <-more:
		case <-ctx.Done():
			return rest, fmt.Errorf("the console never said %q: %w; it said: %s", text, ctx.Err(), last([]byte(rest), 1000))
		}
	}
}
