package remote

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// unread is a sender that takes no replies; its first record is "unread".
func (f *fixture) unread(part []byte) *client {
	c := f.dial()
	c.SetReadBuffer(4 << 10)
	c.side.sock.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<10) })
	go func() { // until it is closed
		for {
			if _, err := c.Write(part); err != nil {
				return
			}
		}
	}()
	return c
}

func (f *fixture) owedTotal() int64 {
	f.all.owed.mu.Lock()
	defer f.all.owed.mu.Unlock()
	return f.all.owed.total
}

func (f *fixture) blocked() int {
	f.all.owed.mu.Lock()
	defer f.all.owed.mu.Unlock()
	return f.all.owed.blocked.Len()
}

// Senders that take no replies hold nothing of what all may have in flight: it is given
// back when their records are stored. They are not read on, and others are served.
func TestUnreadRepliesHoldNothing(t *testing.T) {
	t.Parallel()
	const limit, bad, owes = 2 * readSize, 20, 16 << 10
	f := setup(t, func(c *settings) { c.MaxTotal, c.MaxReplies = limit, owes })
	var records []byte
	for i := range uint32(500) {
		records = append(records, message(i, "unread "+strings.Repeat("x", 100))...)
	}
	for range bad {
		f.unread(records)
	}
	eventually(t, "all are blocked", func() bool { return f.blocked() == bad })
	eventually(t, "no reading goes on", func() bool { return f.owedTotal() >= bad*owes })
	eventually(t, "nothing is in flight", func() bool {
		free := f.in.TryAcquire(limit)
		if free {
			f.in.Release(limit)
		}
		return free && f.value("auditfleet_collector_inflight_bytes") == 0
	})
	if most := int64(bad * (owes + 2*turnFrames*remote.HeaderSize)); f.owedTotal() > most {
		t.Errorf("%d bytes of replies wait, %d is the most", f.owedTotal(), most)
	}
	c := f.dial()
	c.send(message(1, "good"))
	c.want("ACK 1")
	f.all.Abort()
}

// When more replies wait than may, those who have not taken theirs for longest go.
func TestSlowestIsEvicted(t *testing.T) {
	t.Parallel()
	const owes = 16 << 10
	f := setup(t, func(c *settings) { c.MaxReplies, c.MaxRepliesTotal = owes, 3*owes })
	beats := bytes.Repeat(remote.Append(nil, remote.Heartbeat, 1, nil), turnFrames)
	good := f.dial()
	good.send(message(1, "good"))
	good.want("ACK 1")
	first := f.unread(beats)
	eventually(t, "the first is blocked", func() bool { return f.blocked() == 1 })
	for range 5 {
		f.unread(beats)
	}
	<-first.done
	if cause := first.side.Cause(); cause != metrics.ClosedEvicted {
		t.Errorf("closed because of %q", cause)
	}
	eventually(t, "the rest is within the limit", func() bool { return f.owedTotal() <= 3*owes })
	if n := f.value("auditfleet_collector_reply_evictions_total"); n < 1 || n > 5 {
		t.Errorf("%v evictions", n)
	}
	if n := strings.Count(f.log.String(), "all that wait are more than may"); n != 1 {
		t.Errorf("%d lines in the log:\n%s", n, f.log.String())
	}
	good.send(message(2, "still good"))
	good.want("ACK 2")
	f.all.Abort()
}

// A turn ends after so many frames, however small they are.
func TestTurnIsBounded(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	most, last, turns, frames := 0, 0, 0, 0
	f := setup(t, func(c *settings) {
		c.turn = func(n int) {
			mu.Lock()
			defer mu.Unlock()
			most, last, turns, frames = max(most, n), n, turns+1, frames+n
		}
	})
	const beats = 50_000
	c := f.dial()
	go func() { c.Write(bytes.Repeat(remote.Append(nil, remote.Heartbeat, 7, nil), beats)) }()
	for range beats {
		c.want("ACK 7")
	}
	mu.Lock()
	if frames != beats || most >= 2*turnFrames || turns < beats/(2*turnFrames) {
		t.Errorf("%d frames in %d turns, at most %d in one; %d is the bound", frames, turns, most, 2*turnFrames-1)
	}
	most, frames = 0, 0
	mu.Unlock()
	// Smaller frames than a header are read by smaller steps.
	const lines = 200_000
	go func() { c.Write(bytes.Repeat([]byte("\n"), lines)) }()
	eventually(t, "all lines are read", func() bool { mu.Lock(); defer mu.Unlock(); return frames == lines })
	if last >= 2*turnFrames {
		t.Errorf("%d empty lines in the last turn", last)
	}
}

// A stop that is cut short while a sender does not take its replies: whoever writes to it
// goes on, and nobody else does.
func TestAbortBesideSlowReader(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	f.unread(bytes.Repeat(remote.Append(nil, remote.Heartbeat, 1, nil), turnFrames))
	eventually(t, "it is blocked", func() bool { return f.blocked() == 1 })
	f.all.End()
	f.all.Abort()
	eventually(t, "its session is over", func() bool {
		f.all.mu.Lock()
		defer f.all.mu.Unlock()
		return len(f.all.sessions) == 0
	})
	eventually(t, "nobody writes to it", func() bool { return f.blocked() == 0 })
}
