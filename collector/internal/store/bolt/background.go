package bolt

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// backgroundNice is the priority of a thread in the background: a third of the others' time where all is busy. A lower one has collections of garbage wait, which stop every thread, until this one runs.
const backgroundNice = 5

// background runs fn on a thread of its own that gives way to all others. fn takes no lock that a writer or a search waits for: who waits for
// such a thread waits as long as it does, which is seconds for each step where the machine is crowded. What takes one is for ordinary.
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

// ordinary runs fn as all else is run, for who is in the background. The runtime makes no thread from one that is locked, so none for it has that one's
// priority.
func ordinary(fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	return <-done
}
