package listen

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/poll"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

// Conn is an accepted connection. Its handler reads and writes it and says what
// came; the listener closes it when it breaks a limit.
type Conn struct {
	sock *poll.Conn
	l    *Listener
	peer netip.AddrPort
	via  netip.AddrPort // of the proxy that said peer; invalid without one

	busy   atomic.Int32 // reasons why its silence may be ours
	active atomic.Bool  // data came since the last idle tick
	since  atomic.Int64 // when the unfinished frame began, ns of the listener's clock; 0 without one
	cause  atomic.Pointer[string]
}

// Peer is the sender's address, as its proxy says it where there is one. An IPv4 sender on a socket for both is ::ffff:a.b.c.d,
// as the stock server writes it.
func (c *Conn) Peer() netip.AddrPort { return c.peer }

// Received is called after each read that brought data: whether it completed a
// frame, and whether an unfinished one is left at its end. The time for that one
// runs from its first byte on; more bytes do not prolong it.
func (c *Conn) Received(completed, unfinished bool) {
	if !c.active.Load() {
		c.active.Store(true)
	}
	switch {
	case !unfinished:
		if c.since.Load() != 0 {
			c.since.Store(0)
		}
	case completed || c.since.Load() == 0:
		c.since.Store(c.l.clock())
	}
}

// Busy says that the connection's silence may be ours from now on: its records are
// being stored, or it waits for its turn to be read. A slow disk must not make its
// senders look idle. Each Busy(true) is ended by a Busy(false).
func (c *Conn) Busy(busy bool) {
	left := int32(0)
	if busy {
		c.busy.Add(1)
	} else {
		left = c.busy.Add(-1)
	}
	c.active.Store(true)
	if !busy && left == 0 && c.since.Load() != 0 {
		c.since.Store(c.l.clock())
	}
}

// Sock is the connection itself, for its handler.
func (c *Conn) Sock() *poll.Conn { return c.sock }

// Shut ends the connection: its handler is woken, and the listener closes it when
// that has returned. The first cause is the one that counts.
func (c *Conn) Shut(cause string) {
	c.cause.CompareAndSwap(nil, &cause)
	_ = c.sock.Shutdown()
}

// Cause is why the connection was closed, "" while it is open.
func (c *Conn) Cause() string {
	if p := c.cause.Load(); p != nil {
		return *p
	}
	return ""
}

// setKeepAlive makes a peer that is gone without a word noticed in half a minute.
func setKeepAlive(c *poll.Conn) { _ = c.KeepAlive(15*time.Second, 5*time.Second, 3) }

// sweepEvery is how often connections are looked at, at least: their limits are of many seconds, or they are looked at more often.
const sweepEvery = 5 * time.Second

// sweep closes what is idle or takes too long for a frame. As the stock server
// does, it looks at every connection once every MaxIdle and closes those that
// have been quiet since the last look: a connection is closed after one to two
// times MaxIdle without data.
func (l *Listener) sweep() {
	defer l.sweeper.Done()
	var idleTick time.Time // of the next look for idle connections
	var idle time.Duration // that idleTick was made with
	for {
		l.mu.Lock()
		limits := l.limits
		l.mu.Unlock()
		if limits.MaxIdle != idle {
			idle = limits.MaxIdle
			idleTick = time.Now().Add(idle)
		}
		period := max(limits.FrameTimeout/4, time.Millisecond)
		if period > sweepEvery {
			period = wake.In(sweepEvery)
		}
		if idle > 0 {
			period = min(period, max(time.Until(idleTick), time.Millisecond))
		}
		select {
		case <-l.closing:
			return
		case <-l.changed:
			continue
		case <-time.After(period):
		}
		lookForIdle := idle > 0 && !time.Now().Before(idleTick)
		if lookForIdle {
			idleTick = idleTick.Add(idle)
		}
		l.sweepOnce(limits.FrameTimeout, lookForIdle)
	}
}

func (l *Listener) sweepOnce(frame time.Duration, lookForIdle bool) {
	oldest := int64(time.Since(l.start) - frame)
	var slow, idle []*Conn
	l.mu.Lock()
	for c := range l.conns {
		if c.busy.Load() > 0 {
			continue
		}
		if since := c.since.Load(); since != 0 && since < oldest {
			slow = append(slow, c)
		} else if lookForIdle && !c.active.Swap(false) {
			idle = append(idle, c)
		}
	}
	l.mu.Unlock()
	// One line for all of them: there may be thousands.
	for _, c := range slow {
		c.Shut(metrics.ClosedFrame)
	}
	if len(slow) > 0 {
		l.cfg.Log.Warn("closed connections: a frame was begun and not finished in time", "connections", len(slow), "peer", slow[0].peer, "limit", frame)
	}
	for _, c := range idle {
		c.Shut(metrics.ClosedIdle)
	}
	if len(idle) > 0 {
		l.cfg.Log.Info("closed idle connections", "connections", len(idle), "peer", idle[0].peer)
	}
}

// clock is what Conn.since counts by; never 0.
func (l *Listener) clock() int64 { return max(1, int64(time.Since(l.start))) }
