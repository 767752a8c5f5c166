// Package tables translates the numbers of the kernel's audit subsystem into the names
// that the stock tools use, and back: record types, system calls by architecture,
// architectures and error numbers. It imports no other package of this module, and any
// package may import it.
//
// A table is built when it is first used. A forwarder needs record types only, so it does
// not hold the system calls of eight architectures in memory. All functions are safe for
// concurrent use: the tables are built once (sync.OnceValue) and never changed.
package tables

//go:generate go run gen.go
