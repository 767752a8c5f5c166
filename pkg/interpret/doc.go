// Package interpret translates the numbers in a record into words, as ausearch -i does,
// and builds the enriched tail that a daemon appends to a record under log_format =
// ENRICHED. The forwarder's log, both command lines, pkg/query, pkg/output and pkg/report
// may import it.
//
// Its output equals that of the stock tools of version 3.0.9, except for the differences
// that DIFFERENCES.md lists and explains.
package interpret

//go:generate go run ./gen
