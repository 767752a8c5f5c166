package order

// RunHolding is Run with another bound of what waits.
var RunHolding = run

// ErrHeld is errHeld.
var ErrHeld = errHeld
