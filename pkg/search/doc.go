// Package search is ausearch: its options and ours, the usage text, and what they do
// with events beyond finding and printing them (--checkpoint, --around, --tree,
// --follow, --reverse). Queries and matching are pkg/query, reading logs is
// pkg/logscan, and the formats are pkg/output. pkg/report and both command lines may
// import it.
package search
