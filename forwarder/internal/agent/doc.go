// Package agent wires the forwarder: a source of records, the pump that formats
// them and hands them to the local log and the spool, and the sender behind the
// spool. Only forwarder/internal/cli may import it.
//
// Where records come from is a source (source.go): the kernel (kernel.go), lines from
// standard input or a file (lines.go, on package lines), or nowhere. Only a source's own
// files know which one it is.
//
// Goroutines: the kernel's reader never waits for what follows it (package kernel says
// what it does instead); the pump alone uses the local log and appends to the spool, and
// may wait for a disk; the sender waits for the network. The kernel queue lies between
// reader and pump, the spool between pump and sender. A source of lines (stdin, a file)
// waits for the pump instead: its records stay where they come from while the spool is
// full.
package agent
