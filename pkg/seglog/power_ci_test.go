//go:build !soak

package seglog

// Of each power cut so many outcomes are looked at, and of so many one is cut again.
const (
	powerStates = 80
	powerAgain  = 50
)
