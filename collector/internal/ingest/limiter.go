package ingest

import (
	"sync"
	"time"
)

// limiter lets a burst of log lines through in each period and counts the rest:
// a sender that sends rubbish must not fill the collector's own log.
type limiter struct {
	now   func() time.Time
	burst int
	every time.Duration

	mu         sync.Mutex
	start      time.Time // guarded by mu: of this period
	used       int       // guarded by mu
	suppressed int       // guarded by mu: since the last line let through
}

// allow says whether a line may be written, and how many were not since the last one.
func (l *limiter) allow() (ok bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if now.Sub(l.start) >= l.every || now.Before(l.start) {
		l.start, l.used = now, 0
	}
	if l.used >= l.burst {
		l.suppressed++
		return false, 0
	}
	l.used++
	suppressed, l.suppressed = l.suppressed, 0
	return true, suppressed
}
