// Package sockets makes connections of descriptors, and pairs of connected ones, between
// which goroutines copy what a socket alone cannot carry, such as TLS. It imports nothing of ours.
package sockets

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Pair returns two connected stream sockets, which are the caller's.
func Pair() (fds [2]int, err error) {
	fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	return fds, os.NewSyscallError("socketpair", err)
}

// Conn makes a connection of a socket's descriptor, which it takes also when it fails.
func Conn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	c, err := net.FileConn(f) // has a descriptor of its own
	return c, errors.Join(err, f.Close())
}
