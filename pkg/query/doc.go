// Package query decides what a search is for and which events it finds: the Query,
// the fields of events and how they are read (Extractor), and the Matcher. The
// collector's index is made of what the same Extractor reads, so an index and a
// Matcher never give different answers.
//
// It reads no log and prints nothing. The collector's store and query API, pkg/logscan,
// pkg/search, pkg/report and both command lines may import it.
package query
