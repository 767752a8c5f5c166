package agent

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// boost sets the niceness of the process to -n (priority_boost). Threads have
// one each: all of them are set until no new one shows up, and later ones inherit
// it.
func (a *Agent) boost(n int) {
	if n == a.boosted {
		return
	}
	n = min(n, 20)
	done := map[string]bool{}
	for {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			a.cfg.Logger.Warn("priority_boost can't be taken", "error", err)
			return
		}
		again := false
		for _, t := range tasks {
			if done[t.Name()] {
				continue
			}
			done[t.Name()], again = true, true
			tid, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			if err := unix.Setpriority(unix.PRIO_PROCESS, tid, -n); err != nil && err != unix.ESRCH {
				a.cfg.Logger.Warn("priority_boost can't be taken", "priority_boost", n, "error", err)
				return
			}
		}
		if !again {
			a.boosted = n
			return
		}
	}
}
