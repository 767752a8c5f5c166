package need

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// FreePort returns a TCP port on which nobody listens at present, for a program that cannot
// choose one itself. The port is not in the range from which the kernel assigns ports to
// clients, and to those who let it choose: another test's server would be there before, and a
// client connection of an earlier load that is still closing would keep a
// server from listening on that port on all addresses.
func FreePort() (int, error) {
	var failed error
	for range 100 {
		port := 12000 + rand.IntN(18000)
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err == nil {
			return port, l.Close()
		}
		failed = err
	}
	return 0, fmt.Errorf("no free port: %w", failed)
}
