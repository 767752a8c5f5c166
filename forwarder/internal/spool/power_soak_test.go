//go:build soak

package spool

const (
	powerStates = 1000
	powerAgain  = 200
	powerStep   = 1
)
