package wake

import "time"

// began is what In counts from.
var began = time.Now()

// In returns how long it is to the next whole multiple of a period, counted from the start of the process: loops that look after
// something every so often then do so together, and a process that does nothing else is woken
// once for all of them.
func In(every time.Duration) time.Duration {
	over := time.Since(began) % every
	if over < 0 { // of a clock that a test has made
		over += every
	}
	return every - over
}
