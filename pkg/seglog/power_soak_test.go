//go:build soak

package seglog

const (
	powerStates = 2000
	powerAgain  = 100
)
