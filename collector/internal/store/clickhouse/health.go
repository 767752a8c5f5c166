package clickhouse

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

const (
	// restTime is how long a server that has failed is asked last at least.
	restTime = 30 * time.Second
	// probeTime is how long after it did not answer it is asked once more whether it does.
	probeTime = 5 * time.Second
)

// byHealth returns the servers: those that have not failed, then those that have, the longest ago first. One that hangs costs minutes each time.
func byHealth(nodes []*node) []*node {
	out := slices.Clone(nodes)
	slices.SortStableFunc(out, func(a, b *node) int { return cmp.Compare(a.failed.Load(), b.failed.Load()) })
	return out
}

// now is a time that no clock sets back; never 0.
func (c *servers) now() int64 { return int64(time.Since(c.begun)) + 1 }

// did notes how a thing ended that a server was asked for. One that has failed is asked last from then on, until it has rested and answers
// something that nobody waits for: else what hangs would be waited for again and again.
func (c *servers) did(n *node, err error) {
	switch failed := n.failed.Load(); {
	case err == nil:
		if failed != 0 && c.now()-failed > int64(restTime) { // there was no other, and it has come back
			n.failed.CompareAndSwap(failed, 0)
		}
	case passes(err) && !errors.Is(err, errFollows):
		n.failed.Store(c.now())
		if c.ctx.Err() == nil && n.probing.CompareAndSwap(false, true) {
			c.meets.Go(func() { c.probeLater(n) })
		}
	}
}

// probeLater asks a server that has failed until it answers.
func (c *servers) probeLater(n *node) {
	for {
		for failed := n.failed.Load(); failed != 0; failed = n.failed.Load() {
			wait := time.Duration(failed-c.now()) + restTime
			if wait <= 0 {
				if c.answers(n) == nil && n.failed.CompareAndSwap(failed, 0) {
					break
				}
				wait = probeTime
			}
			select {
			case <-c.ctx.Done():
				return
			case <-time.After(wait):
			}
		}
		n.probing.Store(false)
		if n.failed.Load() == 0 || !n.probing.CompareAndSwap(false, true) { // else it has failed meanwhile, and nobody else asks
			return
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
