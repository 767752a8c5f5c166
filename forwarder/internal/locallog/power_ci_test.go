//go:build !soak

package locallog

// Of each power cut so many outcomes are looked at.
const (
	powerStates = 40
)
