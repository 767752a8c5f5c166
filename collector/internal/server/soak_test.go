//go:build soak

package server

func init() { quietMinutes = 56 }
