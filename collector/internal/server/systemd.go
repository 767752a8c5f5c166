package server

import (
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// startTick is how often systemd is told that a start goes on, startGrace what it
// then waits for more.
const (
	startTick  = 15 * time.Second
	startGrace = time.Minute
)

// starting keeps systemd from ending a start that takes longer than its
// TimeoutStartSec: putting back what is readable of a big damaged partition would
// begin anew each time, for ever.
func starting(notify func(state string)) (stop func()) {
	return repeat(startTick, func() {
		notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d\nSTATUS=opening the store", startGrace.Microseconds()))
	})
}

// watchdog tells systemd's watchdog, when it is on, that the collector is alive, at half
// its time.
func (s *Server) watchdog() (stop func()) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		s.cfg.Log.Warn("the service manager's watchdog is told nothing", "error", err)
	}
	if limit <= 0 {
		return func() {}
	}
	return repeat(limit/2, func() { s.cfg.Notify(daemon.SdNotifyWatchdog) })
}

// repeat calls f now and every so often from a goroutine that stop ends and joins.
func repeat(every time.Duration, f func()) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			f()
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}
