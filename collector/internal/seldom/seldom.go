// Package seldom keeps log lines seldom: what peers do must not fill the collector's own
// log. Packages listen, enroll and the ingest ones use it; it imports nothing of ours.
package seldom

import (
	"sync"
	"time"
)

// Limiter lets Burst lines through in each period of Every and counts the rest.
type Limiter struct {
	Now   func() time.Time
	Burst int
	Every time.Duration

	mu         sync.Mutex
	start      time.Time // guarded by mu: of this period
	used       int       // guarded by mu
	suppressed int       // guarded by mu: since the last line let through
}

// Allow says whether a line may be written, and how many were not since the last one.
func (l *Limiter) Allow() (ok bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.Now()
	if now.Sub(l.start) >= l.Every || now.Before(l.start) {
		l.start, l.used = now, 0
	}
	if l.used >= l.Burst {
		l.suppressed++
		return false, 0
	}
	l.used++
	suppressed, l.suppressed = l.suppressed, 0
	return true, suppressed
}
