package ship

import (
	"context"
	"errors"
	"time"
)

// prefer makes the session end and the next one use p's connection.
func (c *session) prefer(p *preferred) {
	c.back, c.offers = p, nil
	c.mu.Lock()
	if c.decided == nil {
		c.decided = errPreferred
	}
	c.mu.Unlock()
}

// finish waits for the replies to what is in flight, so that it need not be sent again: up
// to Grace when this program or the server ends, otherwise as long as replies come.
func (c *session) finish(ctx context.Context, why error) error {
	t := time.NewTimer(c.cfg.Grace)
	defer t.Stop()
	limit, done := t.C, ctx.Done()
	if errors.Is(why, errEnding) || ctx.Err() != nil {
		done = nil
	} else {
		limit = nil
	}
	for {
		c.mu.Lock()
		c.leaving = true
		flying := c.win.flying
		c.mu.Unlock()
		if flying == 0 {
			return why
		}
		select {
		case <-done:
			done, limit = nil, time.After(c.cfg.Grace)
		case <-limit:
			return why
		case <-c.dead:
			return why
		case <-c.wake:
		}
	}
}
