//go:build soak

package server

func init() {
	quietMinutes = 56
	quietHosts, quietDays = 24, 20
}
