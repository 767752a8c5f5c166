package clickhouse

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// restTime is how long a server that has failed is asked last at least; where it failed again as soon as it was asked first, twice as long each time, up to
	// longestRest: it may answer that it is there, and hang with what it is asked for.
	restTime    = 30 * time.Second
	longestRest = 16 * restTime
	// probeTime is how long after it did not answer it is asked once more whether it does.
	probeTime = 5 * time.Second
)

// work is what servers are asked for: one whose disk hangs answers questions, and stores nothing.
type work int

const (
	asking work = iota
	storing
	works
)

// health is what is known of whether a server does a work.
type health struct {
	mu      sync.Mutex // guards the rest
	failed  int64      // when it failed last, by servers.now; 0: it has not, or answers again
	times   int        // how often it failed that was taken for well, and did nothing between
	probing bool       // by probeLater
}

// byHealth returns the servers: those that have not failed in a work, then those that have, the longest ago first. One that hangs costs minutes each time.
func byHealth(nodes []*node, w work) []*node {
	out := slices.Clone(nodes)
	slices.SortStableFunc(out, func(a, b *node) int { return cmp.Compare(a.health[w].last(), b.health[w].last()) })
	return out
}

// now is a time that no clock sets back; never 0.
func (c *servers) now() int64 { return int64(time.Since(c.begun)) + 1 }

// did notes how a work ended that a server was asked for. One that has failed is asked last from then on, until it has rested and answers
// something that nobody waits for: else what hangs would be waited for again and again.
func (c *servers) did(n *node, w work, err error) {
	h := &n.health[w]
	switch {
	case err == nil:
		h.worked(c.now())
	case blames(err):
		if h.fail(c.now()) && c.ctx.Err() == nil {
			c.meets.Go(func() { c.probeLater(n, h) })
		}
	}
}

// worked notes that the server did a work.
func (h *health) worked(now int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.failed == 0:
		h.times = 0
	case now-h.failed > int64(restTime): // there was no other, and it has come back
		h.failed = 0
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
	if h.failed == 0 {
		h.times++
	}
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

// probed is last for who probes, and how long the server rests: where it has not failed, or answers again, it is probed no longer.
func (h *health) probed() (failed int64, rest time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probing = h.failed != 0
	return h.failed, min(restTime<<min(max(h.times-1, 0), 10), longestRest)
}

// probeLater asks a server that has failed until it answers.
func (c *servers) probeLater(n *node, h *health) {
	for failed, rest := h.probed(); failed != 0; failed, rest = h.probed() {
		wait := time.Duration(failed-c.now()) + rest
		if wait <= 0 {
			if c.answers(n) == nil {
				h.recovered(failed)
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
