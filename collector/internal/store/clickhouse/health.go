package clickhouse

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// restTime is how long a server that has failed is asked last at least.
	restTime = 30 * time.Second
	// probeTime is how long after it did not answer it is asked once more whether it does.
	probeTime = 5 * time.Second
)

// health is what is known of whether a server works.
type health struct {
	mu      sync.Mutex // guards the rest
	failed  int64      // when it failed last, by servers.now; 0: it has not, or answers again
	probing bool       // by probeLater
}

// byHealth returns the servers: those that have not failed, then those that have, the longest ago first. One that hangs costs minutes each time.
func byHealth(nodes []*node) []*node {
	out := slices.Clone(nodes)
	slices.SortStableFunc(out, func(a, b *node) int { return cmp.Compare(a.health.last(), b.health.last()) })
	return out
}

// now is a time that no clock sets back; never 0.
func (c *servers) now() int64 { return int64(time.Since(c.begun)) + 1 }

// did notes how a thing ended that a server was asked for. One that has failed is asked last from then on, until it has rested and answers
// something that nobody waits for: else what hangs would be waited for again and again.
func (c *servers) did(n *node, err error) {
	switch failed := n.health.last(); {
	case err == nil:
		if failed != 0 && c.now()-failed > int64(restTime) { // there was no other, and it has come back
			n.health.recovered(failed)
		}
	case passes(err) && !errors.Is(err, errFollows):
		if n.health.fail(c.now()) && c.ctx.Err() == nil {
			c.meets.Go(func() { c.probeLater(n) })
		}
	}
}

// last returns when the server failed last; 0: it has not, or answers again.
func (h *health) last() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

// fail notes a failure, and reports whether the server is to be probed from now on.
func (h *health) fail(now int64) (probe bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	probe = !h.probing
	h.failed, h.probing = now, true
	return probe
}

// recovered forgets a failure, unless there was a later one.
func (h *health) recovered(failed int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == failed {
		h.failed = 0
	}
}

// probed is last for who probes: where the server has not failed, or answers again, it is probed no longer.
func (h *health) probed() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probing = h.failed != 0
	return h.failed
}

// probeLater asks a server that has failed until it answers.
func (c *servers) probeLater(n *node) {
	for failed := n.health.probed(); failed != 0; failed = n.health.probed() {
		wait := time.Duration(failed-c.now()) + restTime
		if wait <= 0 {
			if c.answers(n) == nil {
				n.health.recovered(failed)
				continue
			}
			wait = probeTime
		}
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// answers asks a server for nothing in particular.
func (c *servers) answers(n *node) error {
	ctx, cancel := context.WithTimeout(c.ctx, lookTime)
	defer cancel()
	if c.probe != nil {
		return c.probe(ctx, n)
	}
	var one uint8
	return n.conn.QueryRow(ctx, "SELECT 1").Scan(&one)
}
