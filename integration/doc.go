// Package integration holds the tests that run the real binaries against the
// real kernel and the real stock audit tools, and the tests that hold for the
// whole tree (who may import whom, one package comment a package). Nothing
// imports it; it imports pkg and proto only.
package integration
