package bolt

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// backgroundNice is the priority of a thread in the background: a tenth of the others' time where all is busy.
const backgroundNice = 10

// background runs fn on a thread of its own that gives way to all others. fn holds no lock that a writer or a search waits for: who waits for
// such a thread waits as long as it does.
func background(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread ends with the goroutine, since it is not unlocked.
		runtime.LockOSThread()
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), backgroundNice) // as it is, it is as good, and others wait longer
		done <- fn()
	}()
	return <-done
}
