// Package interpret turns the numbers in a record into words, as ausearch -i
// does, and makes the enriched tail that a daemon appends under log_format =
// ENRICHED. The forwarder's log, both command lines, pkg/query, pkg/output and
// pkg/report may import it.
//
// What it prints is what the stock tools of version 3.0.9 print; DIFFERENCES.md
// lists where it does not, and why.
package interpret

//go:generate go run ./gen
