package listen

import (
	"time"

	"github.com/auditfleet/auditfleet/pkg/metrics"
	"golang.org/x/sys/unix"
)

// A sender that comes back after a crash, a restart of its machine or a cut in the
// network may find its own dead session in its way (tcp_max_per_addr). The stock
// server refuses it until that one goes, and the stock sender gives up after three
// tries. Here the newcomer waits while the kernel asks the peers of the sessions in
// its way: one whose peer does not answer is evicted, one that is alive stays and
// the newcomer is refused.

const (
	// tcpEstablished is TCP_ESTABLISHED of linux/tcp_states.h.
	tcpEstablished = 1
	// fresh is how recently a session was heard of to count as alive without
	// being asked: no machine is back sooner.
	fresh = time.Second
	// maxUnanswered is how many questions a dead peer leaves unanswered, and grace how
	// long it has for the last of them. They are a second apart.
	maxUnanswered = 2
	grace         = 500 * time.Millisecond
	// contestTime is the longest a newcomer waits: the stock sender waits 5 s for
	// a reply before it gives up its connection.
	contestTime = 4 * time.Second
	// maxContests bounds how many newcomers wait at a time.
	maxContests = 1024
	pollEvery   = 20 * time.Millisecond
)

// vital is what the kernel knows of a session's peer.
type vital struct {
	state      int           // of TCP; -1 when the socket is closed
	heard      time.Duration // since anything came from it: data or an acknowledgement
	unanswered int           // questions and repeated segments it has not answered
}

func (c *Conn) vital() vital {
	v := vital{state: -1}
	_ = c.sock.Control(func(fd uintptr) { // an error leaves the state -1
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		v.state = int(info.State)
		v.heard = time.Duration(min(info.Last_data_recv, info.Last_ack_recv)) * time.Millisecond
		v.unanswered = int(info.Probes) + int(info.Retransmits)
	})
	return v
}

// probe makes the kernel ask the peer for a sign of life: now if nothing came for a
// second, else when nothing has, and every second from then on. The kernel ends
// the session itself if we should not.
func (c *Conn) probe() {
	_ = c.sock.KeepAlive(time.Second, time.Second, 4)
}

// contest looks at the sessions that are in a newcomer's way. Those that are over
// no longer count, though their last records may still be stored. It is true when
// the newcomer waits for the others, and is false when that is not needed, or too
// many wait already.
func (l *Listener) contest(c *Conn, handle func(*Conn)) bool {
	addr := c.peer.Addr()
	var doubtful []*Conn
	room := false
	for _, other := range l.inTheWay(c) {
		switch v := other.vital(); {
		case v.state != tcpEstablished:
			l.uncount(other)
			room = true
		case v.heard >= fresh:
			doubtful = append(doubtful, other)
		}
	}
	if room || len(doubtful) == 0 {
		return false
	}
	l.mu.Lock()
	_, waits := l.waits[addr]
	mayWait := !waits && !l.ended && len(l.waits) < maxContests && l.descriptors() < l.limits.MaxConns
	if mayWait {
		l.waits[addr] = c
		l.newcomers.Add(1)
	}
	l.mu.Unlock()
	if !mayWait {
		return false
	}
	for _, other := range doubtful {
		other.probe()
	}
	go func() {
		defer l.newcomers.Done()
		l.await(doubtful)
		l.mu.Lock()
		delete(l.waits, addr)
		l.mu.Unlock()
		l.decide(c, l.add(c), handle)
	}()
	return true
}

// await returns when one of the sessions has made room, when all of them have been
// heard of, or when the time is over.
func (l *Listener) await(doubtful []*Conn) {
	began := time.Now()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	quiet := make(map[*Conn]time.Time, len(doubtful)) // since when it owes too much
	alive := make(map[*Conn]bool, len(doubtful))
	for len(alive) < len(doubtful) {
		select {
		case <-l.closing:
			return
		case <-tick.C:
		}
		waited := time.Since(began)
		for _, c := range doubtful {
			v := c.vital()
			switch {
			case v.state != tcpEstablished:
				l.uncount(c)
				return
			case v.heard < waited+fresh/2: // the kernel counts in ticks; without an answer it is fresh more
				alive[c] = true
			case v.unanswered < maxUnanswered:
				delete(quiet, c)
			case quiet[c].IsZero():
				quiet[c] = time.Now()
			case time.Since(quiet[c]) >= grace:
				l.evict(c, v)
				return
			}
		}
		if waited >= contestTime {
			return
		}
	}
}

// inTheWay are the sessions that count against a newcomer.
func (l *Listener) inTheWay(c *Conn) []*Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*Conn(nil), l.byAddr[c.peer.Addr()]...)
}

// uncount has a session that is over no longer count for its address.
func (l *Listener) uncount(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(c)
}

// evict closes a session whose peer is gone. What is left to be sent to it is
// thrown away with it.
func (l *Listener) evict(c *Conn, v vital) {
	_ = c.sock.Reset()
	c.Shut(metrics.ClosedStale)
	l.uncount(c)
	l.cfg.Log.Info("closed a session whose sender is gone: it stood in the way of a new one",
		"peer", c.peer, "silent", v.heard.Round(time.Millisecond), "unanswered", v.unanswered)
}
