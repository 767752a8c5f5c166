package ship

import (
	"context"
	"errors"
	"time"
)

// prefer has the session end, and the next use the connection of p.
func (c *session) prefer(p *preferred) {
	c.back, c.offers = p, nil
	c.mu.Lock()
	if c.decided == nil {
		c.decided = errPreferred
	}
	c.mu.Unlock()
}

// finish waits for the replies to what is in flight, so that it need not be sent
// twice: up to Grace when we or the server end, otherwise as long as any come.
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
