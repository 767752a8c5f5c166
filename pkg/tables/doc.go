// Package tables turns the numbers of the kernel's audit into the names the
// stock tools use, and back: record types, system calls by architecture,
// architectures and error numbers. It is a leaf: any package may import it.
//
// A table costs nothing until it is first used, so that a forwarder, which needs
// record types only, does not carry the system calls of eight architectures.
package tables

//go:generate go run gen.go
