// Package fleet is the collector's gRPC interface: what its command line, its web
// pages and other programs ask it. The Go code is generated from fleet.proto by
// `make proto` and checked in. Any package may import it; it imports nothing of ours.
package fleet
