//go:build soak

package locallog

const (
	powerStates = 2000
)
