// Package query defines what a search asks for and decides which events it finds. It
// contains the Query, the fields of events and their Extractor, and the Matcher. The
// collector builds its index from the values that the same Extractor reads, so the index
// and a Matcher always give the same answer.
//
// It reads no log and prints nothing. The collector's store and query API, pkg/logscan,
// pkg/search, pkg/report and both command lines may import it.
package query
