//go:build !soak

package spool

// Of each power cut so many outcomes are looked at, of so many one is cut again, and
// the power goes at every so many-th operation.
const (
	powerStates = 24
	powerAgain  = 500
	powerStep   = 2
)
