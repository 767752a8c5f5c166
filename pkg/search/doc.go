// Package search implements ausearch: its options and those of this project, the usage
// text, and the features beyond finding and printing events (--checkpoint, --around,
// --tree, --follow, --reverse). pkg/query defines queries and matching, pkg/logscan reads
// logs, and pkg/output contains the formats. pkg/report and both command lines may import
// it.
package search
