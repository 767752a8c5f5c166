package rewrite

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// courtesy has a job rest while others want the CPU that it has. A low priority alone does not do: while the kernel has the
// job's thread wait, that thread keeps one of the few places which the runtime has for all of the collector, and each collection of garbage waits
// for it to come to a stop.
//
// How much others want the CPU is what the kernel says of the thread (schedstat): how long it ran, and how long it was ready and
// did not run. Where the kernel says nothing, there is no rest.
type courtesy struct {
	thread      int // that it looked at last
	ran, waited time.Duration
	pressure    float64 // the part of its time that the thread lately waited, 0 to 1
	owed        time.Duration
}

const (
	// restMost is how many times as long as it worked a job rests where others want all there is: it then takes an eighth of one CPU.
	restMost = 7
	// pressureMost is the pressure from which on it does.
	pressureMost = 0.25
	// pressureTime is how long the pressure of before counts.
	pressureTime = 20 * time.Millisecond
	// restLeast is a rest that is worth a timer.
	restLeast = 5 * time.Millisecond
)

// look returns how long the caller's thread ran and waited since it began.
func look() (ran, waited time.Duration, ok bool) {
	text, err := os.ReadFile("/proc/thread-self/schedstat")
	if err != nil {
		return 0, 0, false
	}
	return parseSchedstat(text)
}

// parseSchedstat reads the first two of "RAN WAITED SLICES", in ns.
func parseSchedstat(text []byte) (ran, waited time.Duration, ok bool) {
	f := bytes.Fields(text)
	if len(f) < 3 {
		return 0, 0, false
	}
	a, errA := strconv.ParseInt(string(f[0]), 10, 64)
	b, errB := strconv.ParseInt(string(f[1]), 10, 64)
	return time.Duration(a), time.Duration(b), errA == nil && errB == nil
}

// rest returns how long the caller, who has its thread for itself, has to rest now; 0 in general. On another thread than the last time
// it begins to look.
func (c *courtesy) rest() time.Duration {
	thread := unix.Gettid()
	ran, waited, ok := look()
	if !ok {
		return 0
	}
	worked, stood, same := ran-c.ran, waited-c.waited, thread == c.thread
	c.thread, c.ran, c.waited = thread, ran, waited
	if !same {
		return 0
	}
	return c.owe(worked, stood)
}

// owe counts work of a thread that ran and waited so long, and returns the rest that is due for it.
func (c *courtesy) owe(ran, waited time.Duration) time.Duration {
	if ran <= 0 || waited < 0 {
		return 0
	}
	share := float64(waited) / float64(ran+waited)
	weight := min(1, float64(ran+waited)/float64(pressureTime))
	c.pressure += (share - c.pressure) * weight
	c.owed += time.Duration(restMost * min(1, c.pressure/pressureMost) * float64(ran))
	if c.owed < restLeast {
		return 0
	}
	d := c.owed
	c.owed = 0
	return d
}
